"""The front's hold on one worker process."""

import asyncio
import contextlib
import signal
import subprocess
import sys

import msgspec

from artesian.worker.messages import WorkerSpec


class WorkerProcess:
    """A running `python -m artesian.worker`.

    It is a fresh interpreter, not a fork: none of the front's threads, sockets or locks is in it.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        """Starts a worker; it reports `Ready` or `Fatal` on its channel."""
        self._process = subprocess.Popen(
            # -P: no module comes from the current directory.
            [sys.executable, "-P", "-m", "artesian.worker"],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self.pid = self._process.pid
        # stdin stays open: its end tells the worker that the front is gone. A worker that ended
        # already breaks the pipe; how it ended is for `wait` to say.
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(msgspec.json.encode(spec) + b"\n")
            self._process.stdin.flush()

    async def wait(self) -> str:
        """Waits for the process to end and says how it did."""
        return exit_description(await asyncio.to_thread(self._process.wait))

    def kill(self) -> None:
        """Ends the process now; it may have ended already."""
        self._process.kill()

    def close(self) -> None:
        """Ends the process and lets go of it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()


def exit_description(status: int) -> str:
    """A process's end in words: its exit status, or the signal that killed it."""
    if status >= 0:
        return f"exited with status {status}"
    name = signal.Signals(-status).name
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
