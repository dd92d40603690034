"""A worker's signs of life, sent by a thread of their own whatever the engine does."""

import contextlib
import threading
import time

from artesian.worker.channel import ChannelError, WorkerChannel
from artesian.worker.messages import Attach, Heartbeat, LastWords, Pulse, WorkerSpec
from artesian.worker.pipes import Outbox, PipeFullError

INTERVAL_S = 0.5
LINGER_MS = 1_000


class LifeSigns:
    """Tells the front, and the keeper of a cluster, that the worker lives and how old its step is.

    The loop writes `is_ready` and the step's start; the thread in `run` reads them.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self.is_ready = False
        self._spec = spec
        self._step_started: float | None = None
        self._front_endpoint = spec.report_endpoint
        self._last_words = ""
        self._wake = threading.Event()
        self._said = threading.Event()

    def start_step(self) -> None:
        """A step begins."""
        self._step_started = time.monotonic()

    def end_step(self) -> None:
        """The step is over."""
        self._step_started = None

    def step_s(self) -> float:
        """Seconds since the running step began; 0 between steps."""
        started = self._step_started
        return 0.0 if started is None else time.monotonic() - started

    def attach(self, front_endpoint: str) -> None:
        """From now on this front is told."""
        self._front_endpoint = front_endpoint
        self._wake.set()

    def say_last(self, message: str) -> None:
        """Tells the keeper why the worker ends; waits a little for that."""
        if self._spec.keeper_endpoint:
            self._last_words = message
            self._wake.set()
            self._said.wait(LINGER_MS / 1e3)

    def run(self) -> None:
        """Sends signs of life until the process ends."""
        spec = self._spec
        keeper = Outbox(spec.keeper_endpoint) if spec.keeper_endpoint else None
        front: WorkerChannel | None = None
        endpoint = ""
        while True:
            if self._front_endpoint != endpoint:
                endpoint = self._front_endpoint
                if front is not None:
                    front.drop()
                front = WorkerChannel()
                front.attach(Attach(0, endpoint))
            if front is not None:
                with contextlib.suppress(ChannelError):
                    front.send(Heartbeat(self.step_s()))
            if keeper is not None:
                me = spec.worker_id, spec.generation
                with contextlib.suppress(PipeFullError):
                    keeper.send(Pulse(*me, self.step_s(), self.is_ready))
                    if self._last_words:
                        keeper.send(LastWords(*me, self._last_words))
                        keeper.close(LINGER_MS)
                        self._said.set()
                        return
            self._wake.wait(INTERVAL_S)
            self._wake.clear()


def describe(error: BaseException) -> str:
    """One line for a person; errors of the project's own kind speak for themselves."""
    text = str(error)
    if isinstance(error, (OSError, ValueError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
