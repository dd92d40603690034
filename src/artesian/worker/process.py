"""A hold on a child that is a Python process of its own: a worker, or a front."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import msgspec

WORKER_MODULE = "artesian.worker"


class ChildProcess:
    """A running `python -m MODULE`.

    It is a fresh interpreter, not a fork: none of the parent's threads, sockets or locks is in it.
    """

    def __init__(self, module: str, spec: msgspec.Struct, pass_fds: Sequence[int] = ()) -> None:
        """Starts it, with `spec` as a line of JSON on its standard input, which ends with us."""
        self._process = subprocess.Popen(
            # -P: no module comes from the current directory.
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self.pid = self._process.pid
        # stdin stays open: its end tells the child that the parent is gone. One that ended
        # already breaks the pipe; how it ended is for `wait` to say.
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(msgspec.json.encode(spec) + b"\n")
            self._process.stdin.flush()

    async def wait(self) -> str:
        """Waits for the process to end and says how it did."""
        if self._process.poll() is None:
            ended = asyncio.Event()
            handle = os.pidfd_open(self.pid)
            loop = asyncio.get_running_loop()
            loop.add_reader(handle, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(handle)
                os.close(handle)
        return exit_description(self._process.wait())

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal; the process may have ended already."""
        self._process.send_signal(number)

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
