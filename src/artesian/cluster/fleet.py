"""The engine as the front sees it, over the workers of a cluster.

The keeper says who they are, by `update`; the front decides who does what. Nothing is kept here
that cannot be lost: when a front dies, the next one asks the workers anew.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from artesian.cluster.asking import Asking
from artesian.cluster.base import Change, MemberRecord, SetRole
from artesian.cluster.dispatch import Dispatch
from artesian.cluster.handovers import HandoverDesk
from artesian.cluster.loads import LoadView, view_of
from artesian.cluster.member import Member
from artesian.cluster.policies import (
    BalancedMap,
    LeastPredictedTime,
    PrefillDecodeMap,
    RoleBalancer,
    Router,
    WorkerLoad,
)
from artesian.cluster.totals import counted, total
from artesian.config import EngineConfig, ServerConfig
from artesian.engine.base import (
    EngineInfo,
    EngineStats,
    InvalidRequestError,
    QueueFullError,
    Request,
)
from artesian.engine.questions import Deleted, DeleteSession, Question, Reply
from artesian.worker.base import WorkerState, WorkerUnavailableError
from artesian.worker.client import ClusterStatus, MemberStatus
from artesian.worker.hooks import Hooks
from artesian.worker.messages import (
    Admitted,
    Answer,
    Fatal,
    Heartbeat,
    Outputs,
    Prefilled,
    PrefillUnwanted,
    PrefillWanted,
    Ready,
    Rejected,
    Report,
    Stats,
)
from artesian.worker.stream import RequestStream

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.1
BALANCE_INTERVAL_S = 1.0
SILENT_SHARE = 0.25
"""A worker that was silent for this part of the time after which it is ended gets nothing new."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a fleet is.

    Attributes:
        front_generation: of the front that it is in.
        directory: where it makes sockets.
        cluster: its name.
    """

    directory: str
    front_generation: int = 1
    cluster: str = ""


@dataclass(frozen=True, kw_only=True)
class Policies:
    """Who decides. `balancer` None: roles change only when somebody says so."""

    router: Router = field(default_factory=LeastPredictedTime)
    mapping: PrefillDecodeMap = field(default_factory=BalancedMap)
    balancer: RoleBalancer | None = None


class Fleet:
    """An `EngineClient` over workers that come and go.

    `ask_change` asks the keeper for a change and says what worker it was about.
    """

    def __init__(
        self,
        engine_config: EngineConfig,
        server_config: ServerConfig,
        place: Place,
        *,
        policies: Policies | None = None,
        hooks: Hooks | None = None,
        ask_change: Callable[[Change], Awaitable[str]] | None = None,
    ) -> None:
        self.failure: str | None = None
        self.num_restarts = 0
        self.place = place
        self._config = engine_config
        self._policies = policies or Policies()
        self._ask_change = ask_change
        self._is_stopped = False
        self._members: dict[str, Member] = {}
        self._records: list[MemberRecord] = []
        self._past = EngineStats()
        self._pool: str | None = None
        self._info: EngineInfo | None = None
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._silent_s = server_config.worker_heartbeat_timeout_s * SILENT_SHARE
        self._view = LoadView(engine_config.max_num_seqs, engine_config.block_size)
        self.hooks = hooks = hooks or Hooks()
        self._dispatch = Dispatch(self._choose, hooks)
        self._asking = Asking()
        self._desk = HandoverDesk(
            self._policies.mapping, self._view, hooks, server_config.request_timeout_s
        )

    @property
    def info(self) -> EngineInfo | None:
        """See `EngineClient`."""
        return self._info

    @property
    def stats(self) -> EngineStats:
        """See `EngineClient`; workers that are gone are counted too."""
        return total([self._past, *(member.stats for member in self._members.values())])

    @property
    def state(self) -> WorkerState:
        """See `EngineClient`: ready when any worker is."""
        if self._is_stopped:
            return "stopped"
        if self.failure is not None:
            return "failed"
        if any(member.state == "ready" for member in self._members.values()):
            return "ready"
        return "starting" if self._info is None else "restarting"

    @property
    def max_in_flight_sequences(self) -> int:
        """See `EngineClient`: what workers can run, and the queue."""
        num_decoding = sum(record.role != "prefill" for record in self._records)
        return self._config.max_num_seqs * max(1, num_decoding) + self._config.max_queue_len

    @property
    def num_in_flight(self) -> int:
        """See `EngineClient`."""
        return len(self._dispatch)

    def start(self) -> None:
        """See `EngineClient`."""
        self._task = asyncio.create_task(self._poll_for_ever())

    async def wait_ready(self) -> None:
        """See `EngineClient`: waits for all workers that are there."""
        await self._ready.wait()

    async def close(self) -> None:
        """See `EngineClient`. The workers stay."""
        self._is_stopped = True
        self._asking.fail_all("the server is shutting down")
        self._dispatch.fail_all("the server is shutting down")
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        for member in self._members.values():
            member.close()
        self._members.clear()

    def check_capacity(self, num_sequences: int) -> None:
        """See `EngineClient`."""
        most, now = self.max_in_flight_sequences, self._dispatch.num_sequences
        if num_sequences > most:
            raise InvalidRequestError(
                f"the request asks for {num_sequences} completions at once; "
                f"at most {most} are possible"
            )
        if now + num_sequences > most:
            raise QueueFullError(
                f"the queue is full: {now} sequences run or wait of at most {most}; try again later"
            )

    async def submit(self, request: Request, max_buffered_tokens: int) -> RequestStream:
        """See `EngineClient`."""
        if self._info is None or self.state in ("failed", "stopped"):
            raise WorkerUnavailableError(
                f"the model is not available: the workers are {self.state}"
            )
        self.check_capacity(request.sampling.n)
        stream = RequestStream(request, max_buffered_tokens)
        await self._dispatch.run(stream)
        return stream

    def abort(self, stream: RequestStream) -> None:
        """See `EngineClient`."""
        self._dispatch.abort(stream)

    async def ask(self, question: Question) -> Reply:
        """See `EngineClient`: every worker is asked, as sessions may have been anywhere."""
        if isinstance(question, DeleteSession) and self._is_running(question):
            return Deleted(is_known=True, is_running=True)
        members = [m for m in self._members.values() if m.state in ("ready", "draining")]
        silent = [m for m in self._members.values() if m.state == "silent"]
        if isinstance(question, DeleteSession) and silent:
            raise WorkerUnavailableError(f"{silent[0].name} gives no sign of life; try again later")
        return await self._asking.ask(question, members)

    async def change(self, change: Change) -> str:
        """Has the keeper change the cluster; returns the id of the worker that it is about.

        Raises:
            ClusterError: it cannot be done.
        """
        assert self._ask_change is not None
        return await self._ask_change(change)

    def status(self) -> ClusterStatus:
        """See `EngineClient`."""
        now = time.monotonic()
        return ClusterStatus(
            members=[self._status_of(record, now) for record in self._records],
            name=self.place.cluster,
            front_generation=self.place.front_generation,
            num_waiting=self._dispatch.num_waiting,
            pool=self._pool,
        )

    def update(
        self, records: Sequence[MemberRecord], num_restarts: int = 0, pool: str | None = None
    ) -> None:
        """What the keeper says of the workers: who is new, who is gone, who has another role."""
        if self._is_stopped:
            return
        self._pool = pool
        self._records = list(records)
        self.num_restarts = num_restarts
        by_name = {record.name: record for record in records if record.pid is not None}
        # All of them first: nothing goes from one that died to another.
        gone = [self._members.pop(name) for name in list(self._members) if name not in by_name]
        for member in gone:
            known = next((r for r in records if r.worker_id == member.record.worker_id), None)
            self._leave(member, known)
        for name, record in by_name.items():
            if name in self._members:
                self._members[name].record = record
            else:
                self._members[name] = Member(
                    record, self.place.front_generation, self.place.directory, self._on_report
                )
        self._dispatch.route_waiting()
        self._tell_peers()
        self._note_ready()

    def fail(self, cause: str) -> None:
        """There are no workers, and there will be none."""
        self.failure = cause
        self._asking.fail_all(cause)
        self._dispatch.fail_all(cause)
        self._ready.set()

    def _status_of(self, record: MemberRecord, now: float) -> MemberStatus:
        member = self._members.get(record.name)
        if member is None:
            return MemberStatus(
                worker_id=record.worker_id,
                generation=record.generation,
                role=record.role,
                state="dead",
            )
        return MemberStatus(
            worker_id=record.worker_id,
            generation=record.generation,
            role=record.role,
            state=member.state,
            pid=record.pid,
            num_in_flight=len(member.streams),
            num_prefills=self._desk.num_prefills(member),
            num_wanted=self._desk.num_wanted(member),
            silent_s=now - member.heard,
            stats=member.stats,
        )

    def _is_running(self, question: DeleteSession) -> bool:
        session = question.cache_salt, question.session_id
        return any(
            (stream.request.cache_salt, stream.request.session_id) == session
            for stream in self._dispatch.streams()
        )

    def _load(self, member: Member) -> WorkerLoad:
        desk = self._desk
        return self._view.load(member, desk.num_prefills(member), desk.num_prefill_tokens(member))

    def _choose(self, request: Request) -> Member | None:
        loads = [self._load(member) for member in self._members.values()]
        chosen = self._policies.router.choose(view_of(request), loads)
        found = (m for m in self._members.values() if m.record.worker_id == chosen)
        return next(found, None)

    def _leave(self, member: Member, record: MemberRecord | None) -> None:
        """A worker is dead for certain; without a record it was taken out of the cluster."""
        member.drain_reports()
        cause = record.cause if record is not None and record.cause else "has left"
        logger.info("%s %s; %d requests go elsewhere", member.name, cause, len(member.streams))
        self._past = total([self._past, counted(member.stats)])
        self._desk.leave(member, cause)
        self._asking.leave(member, cause)
        self._dispatch.leave(member, cause, is_killed=record is not None)
        member.close()

    def _on_report(self, member: Member, report: Report) -> None:
        member.heard = time.monotonic()
        match report:
            case Outputs(outputs):
                for output in outputs:
                    self._dispatch.push(member, output)
            case Heartbeat():
                self._set_silent(member, False)
            case Stats(stats):
                member.stats = stats
                member.speed.note_stats(stats, member.heard)
            case Admitted(request_id):
                self._dispatch.admitted(member, request_id)
            case Rejected():
                self._dispatch.rejected(member, report)
            case PrefillWanted(job):
                self._desk.want(member, job, list(self._members.values()), member.heard)
            case PrefillUnwanted(job_id, token_ids):
                self._desk.unwant(member, job_id, member.heard, token_ids)
            case Prefilled(done):
                self._desk.done(member, done)
            case Answer():
                self._asking.answered(member, report)
            case Ready(info):
                self._on_ready(member, info)
            case Fatal(message):
                logger.error("%s: %s", member.name, message)

    def _on_ready(self, member: Member, info: EngineInfo) -> None:
        member.info = info
        self._info = self._info or info
        self._dispatch.route_waiting()
        self._tell_peers()
        self._note_ready()

    def _note_ready(self) -> None:
        members = self._members.values()
        if self._info is not None and all(member.info is not None for member in members):
            self._ready.set()

    def _tell_peers(self) -> None:
        num_prefill = sum(
            member.state == "ready" and member.record.role == "prefill"
            for member in self._members.values()
        )
        for member in self._members.values():
            if member.info is not None:
                member.tell_peers(0 if member.record.role == "prefill" else num_prefill)

    def _set_silent(self, member: Member, is_silent: bool) -> None:
        if member.is_silent == is_silent:
            return
        member.is_silent = is_silent
        if is_silent:
            logger.warning("%s gives no sign of life", member.name)
            self._desk.leave(member, "gives no sign of life")
        self._tell_peers()
        self._dispatch.route_waiting()

    async def _poll_for_ever(self) -> None:
        next_balance = 0.0
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            now = time.monotonic()
            try:
                for member in self._members.values():
                    if member.info is not None and now - member.heard > self._silent_s:
                        self._set_silent(member, True)
                self._desk.poll(now)
                self._dispatch.expire()
                if self._policies.balancer is not None and now >= next_balance:
                    next_balance = now + BALANCE_INTERVAL_S
                    await self._balance(self._policies.balancer, now)
            except Exception:
                logger.exception("the fleet's poll failed")

    async def _balance(self, balancer: RoleBalancer, now: float) -> None:
        loads = [self._load(member) for member in self._members.values()]
        decided = balancer.decide(loads, now)
        if decided is not None and self._ask_change is not None:
            logger.info("%s becomes a %s worker", decided.worker_id, decided.role)
            await self._ask_change(SetRole(decided.worker_id, decided.role))
