"""The front's hold on one worker process."""

import asyncio
import signal
import sys

import msgspec

from artesian.worker.messages import WorkerSpec


class WorkerProcess:
    """A running `python -m artesian.worker`.

    It is a fresh interpreter, not a fork: none of the front's threads, sockets or locks is in it.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(cls, spec: WorkerSpec) -> "WorkerProcess":
        """Starts a worker; it reports `Ready` or `Fatal` on its channel."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # no module from the current directory
            "-m",
            "artesian.worker",
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        # stdin stays open: its end tells the worker that the front is gone.
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(spec) + b"\n")
        return cls(process)

    async def wait(self) -> str:
        """Waits for the process to end and says how it did."""
        return exit_description(await self._process.wait())

    def kill(self) -> None:
        """Ends the process now; it may have ended already."""
        if self._process.returncode is None:
            self._process.kill()

    async def stop(self, grace_s: float) -> None:
        """Waits so long for a process that was told to shut down, then kills it."""
        try:
            await asyncio.wait_for(self._process.wait(), grace_s)
        except TimeoutError:
            self.kill()
            await self._process.wait()


def exit_description(status: int) -> str:
    """A process's end in words: its exit status, or the signal that killed it."""
    if status >= 0:
        return f"exited with status {status}"
    name = signal.Signals(-status).name
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
