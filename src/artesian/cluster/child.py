"""A place in a cluster whose process is replaced when it ends, or is ended when it hangs."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable

from artesian.worker.process import ChildProcess

logger = logging.getLogger(__name__)

MAX_FAILED_STARTS = 3
BACKOFF_START_S = 0.25
BACKOFF_MAX_S = 30.0
# A process that lived for so long was sound: its successor starts without delay.
SOUND_LIFE_S = 60.0
WATCH_INTERVAL_S = 0.25
# An interpreter that has just been started says nothing for a while.
FIRST_SIGN_S = 15.0


class Child:
    """Keeps one process alive.

    Attributes:
        generation: of the process; counts up.
        process: None between two of them.
        is_ready: whether the process has said so.
        cause: why the last one ended.
        num_restarts: processes that were replaced.
        has_failed: it is not tried any more.
    """

    def __init__(
        self,
        name: str,
        spawn: Callable[[int], ChildProcess],
        on_change: Callable[["Child"], None],
        silence_s: float,
        step_s: float,
    ) -> None:
        """`spawn` makes the process of a generation; `on_change` hears of starts and ends.

        A process is ended that is silent for `silence_s` or in one step for `step_s`.
        """
        self.name = name
        self.generation = 0
        self.process: ChildProcess | None = None
        self.is_ready = False
        self.cause = ""
        self.num_restarts = 0
        self.has_failed = False
        self._spawn = spawn
        self._on_change = on_change
        self._silence_s = silence_s
        self._step_s = step_s
        self._heard = 0.0
        self._in_step_s = 0.0
        self._last_words = ""
        self._was_ready = False
        self._stopping = asyncio.Event()

    @property
    def was_ever_ready(self) -> bool:
        """Whether any process of this place has been ready."""
        return self._was_ready

    def pulse(self, generation: int, is_ready: bool, step_s: float = 0.0) -> None:
        """A sign of life has come; those of processes that are gone are ignored."""
        if generation != self.generation or self.process is None:
            return
        self._heard, self._in_step_s = time.monotonic(), step_s
        if is_ready and not self.is_ready:
            self.is_ready = self._was_ready = True
            self._on_change(self)

    def say_last(self, generation: int, message: str) -> None:
        """The process tells why it ends."""
        if generation == self.generation:
            self._last_words = message

    async def keep(self, may_retry: Callable[[], bool]) -> None:
        """Starts processes until `stop`, or until several in a row could not be used.

        `may_retry` says whether to go on after one that never became ready.
        """
        num_failed, backoff_s = 0, BACKOFF_START_S
        while not self._stopping.is_set():
            started = time.monotonic()
            await self._run()
            if self._stopping.is_set():
                break
            num_failed = 0 if self.is_ready else num_failed + 1
            self.is_ready = False
            if num_failed and (num_failed >= MAX_FAILED_STARTS or not may_retry()):
                self.has_failed = True
                self._on_change(self)
                return
            self._on_change(self)
            logger.error("%s %s; starting another", self.name, self.cause)
            self.num_restarts += 1
            if time.monotonic() - started > SOUND_LIFE_S:
                backoff_s = BACKOFF_START_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
        self.is_ready = False
        self._on_change(self)

    async def stop(self, ask: Callable[[], None], timeout_s: float) -> None:
        """Asks the process to end, and ends it after `timeout_s`; there will be no other."""
        self._stopping.set()
        process = self.process
        if process is None:
            return
        ask()
        ended = asyncio.create_task(process.wait())
        await asyncio.wait({ended}, timeout=timeout_s)
        process.kill()
        await ended

    def send_signal(self, number: signal.Signals) -> None:
        """Sends the process a signal, if there is one."""
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """Ends the process now; it is replaced unless `stop` was called."""
        if self.process is not None:
            self.process.kill()

    async def _run(self) -> None:
        """One process from start to end; `cause` says how it ended."""
        self.generation += 1
        self.is_ready, self._last_words = False, ""
        try:
            process = self._spawn(self.generation)
        except OSError as error:
            self.cause = f"could not be started: {error}"
            return
        self.process = process
        self._heard, self._in_step_s = time.monotonic() + FIRST_SIGN_S, 0.0
        self._on_change(self)
        try:
            self.cause = await self._watch(process)
        finally:
            process.close()
            self.process = None
        if self._last_words:
            self.cause = f"stopped: {self._last_words}"

    async def _watch(self, process: ChildProcess) -> str:
        """Waits for the end, and brings it about if the process hangs."""
        ended = asyncio.create_task(process.wait())
        while True:
            await asyncio.wait({ended}, timeout=WATCH_INTERVAL_S)
            if ended.done():
                return ended.result()
            silent_s = time.monotonic() - self._heard
            cause = ""
            if silent_s > self._silence_s:
                cause = f"gave no sign of life for {silent_s:.0f} s"
            elif self._in_step_s > self._step_s:
                cause = f"was stuck in one step for {self._in_step_s:.0f} s"
            if cause:
                process.kill()
                await ended
                return cause
