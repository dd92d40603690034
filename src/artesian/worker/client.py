"""The engine as the HTTP front sees it: one worker or many, requests in, streams of outputs out."""

from typing import Literal, Protocol

import msgspec

from artesian.engine.base import EngineInfo, EngineStats, Request
from artesian.engine.questions import Question, Reply
from artesian.worker.base import WorkerState
from artesian.worker.hooks import Hooks
from artesian.worker.stream import RequestStream

Role = Literal["both", "prefill", "decode"]
"""What the router sends to a worker; every worker can do everything."""

MemberState = Literal["starting", "ready", "draining", "silent", "dead"]
"""`draining`: it finishes what it has and gets nothing new; `silent`: it gives no sign of life, and
is ended if that goes on."""


class MemberStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One worker, for people.

    Attributes:
        generation: how many processes this worker has had; goes up when it is replaced.
        num_in_flight: requests of the front that it has.
        num_prefills: prompts that it computes for others.
        num_wanted: prompts that others compute for it.
        silent_s: since its last sign of life.
    """

    worker_id: str
    generation: int
    role: Role
    state: MemberState
    pid: int | None = None
    num_in_flight: int = 0
    num_prefills: int = 0
    num_wanted: int = 0
    silent_s: float = 0.0
    stats: EngineStats = msgspec.field(default_factory=EngineStats)


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All workers at one moment.

    Attributes:
        name: of the cluster; empty where there is just one worker.
        front_generation: how many fronts there have been.
        num_waiting: requests that no worker has yet.
        pool: address of the context cache's memory pool, if the cluster made it.
    """

    members: list[MemberStatus]
    name: str = ""
    front_generation: int = 1
    num_waiting: int = 0
    pool: str | None = None


class EngineClient(Protocol):
    """Lives on one event loop.

    Attributes:
        info: None until a worker is ready.
        stats: counts of all workers together.
        num_restarts: workers that were replaced.
        failure: why there is no worker any more, if `state` is "failed".
        max_in_flight_sequences: sequences that may run or wait at once.
        hooks: for those who take part in requests' lives.
    """

    failure: str | None
    num_restarts: int
    hooks: Hooks

    @property
    def info(self) -> EngineInfo | None:
        """See above."""

    @property
    def stats(self) -> EngineStats:
        """See above."""

    @property
    def state(self) -> WorkerState:
        """See above."""

    @property
    def max_in_flight_sequences(self) -> int:
        """See above."""

    @property
    def num_in_flight(self) -> int:
        """Requests submitted and not finished."""

    def start(self) -> None:
        """Begins to look for workers, or to start them; `wait_ready` tells when one is there."""

    async def wait_ready(self) -> None:
        """Waits for a worker to be ready, or for the last attempt to fail."""

    async def close(self) -> None:
        """Ends what `start` began; requests still in flight fail."""

    def check_capacity(self, num_sequences: int) -> None:
        """Checks that so many more sequences may come.

        Raises:
            InvalidRequestError: they never may.
            QueueFullError: they may not now.
        """

    async def submit(self, request: Request, max_buffered_tokens: int) -> RequestStream:
        """Hands a request to a worker and waits until it is queued there.

        Raises:
            InvalidRequestError: it can never run.
            QueueFullError: as many sequences as allowed run and wait already.
            RequestDeadlineError: its time was over before a worker took it.
            WorkerUnavailableError: no worker is there, or it does not respond.
            InternalEngineError: a defect.
        """

    async def ask(self, question: Question) -> Reply:
        """Asks the workers that have to do with it; a question is never asked twice.

        Raises:
            WorkerUnavailableError: none is there, one ended, or did not answer in time.
            InternalEngineError: a defect.
        """

    def abort(self, stream: RequestStream) -> None:
        """Gives a request up; nothing happens if it is finished."""

    def status(self) -> ClusterStatus:
        """The workers at this moment."""
