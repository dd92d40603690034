"""The keeper's workers: their processes, and what the others are told of them."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from artesian.cluster.base import (
    AddWorker,
    Change,
    ClusterError,
    Drain,
    MemberRecord,
    Membership,
    RemoveWorker,
    SetRole,
)
from artesian.cluster.child import Child
from artesian.cluster.context_pool import ContextPool
from artesian.cluster.plan import Shares
from artesian.cluster.run_directory import RunDirectory, region_of
from artesian.config import EngineConfig, ServerConfig
from artesian.kvcache.region import remove_region
from artesian.worker.channel import KEEPER_GENERATION
from artesian.worker.client import Role
from artesian.worker.messages import EndPeer, LastWords, Pulse, Shutdown, WorkerSpec
from artesian.worker.pipes import Outbox, PipeFullError
from artesian.worker.process import WORKER_MODULE, ChildProcess

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 3.0
MAX_WORKERS = 64
_SENDER = KEEPER_GENERATION.to_bytes(8, "little")


@dataclass
class _Worker:
    """A place; `record` is of the process in it, or of the last one."""

    child: Child
    record: MemberRecord
    cpus: list[int]
    commands: Outbox | None = None
    task: "asyncio.Task[None] | None" = None
    is_leaving: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What workers are made of."""

    engine_config: EngineConfig
    server_config: ServerConfig
    engine_factory: str
    shares: Shares
    keeper_endpoint: str = field(default="")


class WorkerGroup:
    """Starts, watches, replaces and ends workers. `on_change` is called when others should know."""

    def __init__(
        self,
        plan: Plan,
        directory: RunDirectory,
        pool: ContextPool | None,
        on_change: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._pool = pool
        self._on_change = on_change
        self._workers: dict[str, _Worker] = {}
        self._num_added = 0
        self._num_past_restarts = 0

    def membership(self) -> Membership:
        """All workers now."""
        records = [worker.record for worker in self._workers.values() if not worker.is_leaving]
        restarts = sum(worker.child.num_restarts for worker in self._workers.values())
        pool = None if self._pool is None else self._pool.own_address
        return Membership(records, self._num_past_restarts + restarts, pool)

    def pids(self) -> list[int]:
        """Of the processes that run."""
        children = (worker.child for worker in self._workers.values())
        return [child.process.pid for child in children if child.process is not None]

    @property
    def was_ever_ready(self) -> bool:
        """Whether the model can be loaded at all."""
        return any(worker.child.was_ever_ready for worker in self._workers.values())

    @property
    def failure(self) -> str | None:
        """Why there are no workers any more; None while any is left."""
        if all(worker.child.has_failed for worker in self._workers.values()):
            causes = [worker.record.cause for worker in self._workers.values()]
            return causes[0].removeprefix("stopped: ") if causes else "there are no workers"
        return None

    def add(self, role: Role) -> str:
        """Starts a worker; returns its id.

        Raises:
            ClusterError: there are too many.
        """
        if len(self._workers) >= MAX_WORKERS:
            raise ClusterError(f"there are {MAX_WORKERS} workers already, the most possible")
        cpus = self._plan.shares.cpus_of(self._num_added)
        self._num_added += 1
        worker_id = f"w{self._num_added}"
        config = self._plan.server_config
        child = Child(
            worker_id,
            lambda generation: self._spawn(worker_id, generation),
            lambda child: self._changed(worker_id),
            config.worker_heartbeat_timeout_s,
            config.worker_step_timeout_s,
        )
        record = MemberRecord(worker_id=worker_id, generation=0, role=role)
        worker = self._workers[worker_id] = _Worker(child, record, cpus)
        worker.task = asyncio.create_task(child.keep(lambda: self.was_ever_ready))
        return worker_id

    async def change(self, change: Change) -> str:
        """Does what was asked for; returns the id of the worker that it is about.

        Raises:
            ClusterError: it cannot be done.
        """
        if isinstance(change, AddWorker):
            worker_id = self.add(change.role)
            self._on_change()
            return worker_id
        worker = self._workers.get(change.worker_id)
        if worker is None or worker.is_leaving:
            known = ", ".join(self._workers) or "none"
            raise ClusterError(f"there is no worker {change.worker_id!r}; there are: {known}")
        match change:
            case Drain():
                worker.record = msgspec.structs.replace(worker.record, is_draining=True)
            case SetRole(_, role):
                worker.record = msgspec.structs.replace(worker.record, role=role, is_draining=False)
            case RemoveWorker():
                await self._remove(worker)
        self._on_change()
        return change.worker_id

    def pulse(self, pulse: Pulse) -> None:
        """A worker lives."""
        if worker := self._workers.get(pulse.worker_id):
            worker.child.pulse(pulse.generation, pulse.is_ready, pulse.step_s)

    def last_words(self, words: LastWords) -> None:
        """A worker says why it ends."""
        if worker := self._workers.get(words.worker_id):
            worker.child.say_last(words.generation, words.message)

    async def close(self) -> None:
        """Ends all workers, those that do not end by themselves after a short time."""
        await asyncio.gather(*(self._stop(worker) for worker in self._workers.values()))

    async def _remove(self, worker: _Worker) -> None:
        others = [w for w in self._workers.values() if w is not worker and not w.is_leaving]
        if not others:
            raise ClusterError(f"{worker.record.worker_id} is the last worker; stop the server")
        worker.is_leaving = True
        await self._stop(worker)
        self._num_past_restarts += worker.child.num_restarts
        del self._workers[worker.record.worker_id]

    async def _stop(self, worker: _Worker) -> None:
        await worker.child.stop(lambda: self._send(worker, Shutdown()), STOP_TIMEOUT_S)
        if worker.task is not None:
            await worker.task

    def _spawn(self, worker_id: str, generation: int) -> ChildProcess:
        worker, plan = self._workers[worker_id], self._plan
        region = region_of(self._directory.cluster, worker_id, generation)
        shares, config = plan.shares, plan.engine_config
        # What the workers take in together the front has bounded.
        most = config.max_queue_len + config.max_num_seqs * MAX_WORKERS
        engine = config.model_copy(
            update={
                "context_pool": config.context_pool if self._pool is None else self._pool.address(),
                "max_queue_len": most,
                "num_threads": shares.num_threads,
                "memory_limit_bytes": config.memory_limit_bytes or shares.memory_bytes,
                "kv_region": region,
            }
        )
        spec = WorkerSpec(
            engine_factory=plan.engine_factory,
            engine_config=engine.model_dump_json(),
            command_endpoint=self._directory.endpoint(f"{worker_id}.{generation}"),
            log_level=plan.server_config.log_level,
            worker_id=worker_id,
            generation=generation,
            keeper_endpoint=plan.keeper_endpoint,
            cpus=worker.cpus,
        )
        process = ChildProcess(WORKER_MODULE, spec)
        worker.commands = Outbox(spec.command_endpoint)
        worker.record = msgspec.structs.replace(
            worker.record,
            generation=generation,
            pid=process.pid,
            command_endpoint=spec.command_endpoint,
            region=region,
            cause="",
        )
        return process

    def _changed(self, worker_id: str) -> None:
        """A process of the place has started, become ready, or ended for certain."""
        worker = self._workers[worker_id]
        if worker.child.process is None and worker.record.pid is not None:
            self._bury(worker)
        elif worker.child.process is None:
            worker.record = msgspec.structs.replace(worker.record, cause=worker.child.cause)
        self._directory.note_processes(self.pids())
        self._on_change()

    def _bury(self, worker: _Worker) -> None:
        """Nobody writes to or from this process any more."""
        record = worker.record
        worker.record = msgspec.structs.replace(record, pid=None, cause=worker.child.cause)
        if worker.commands is not None:
            worker.commands.close()
            worker.commands = None
        Path(record.command_endpoint.removeprefix("ipc://")).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the end of the cluster tries again
            remove_region(record.region)
        for other in self._workers.values():
            self._send(other, EndPeer(record.region))

    def _send(self, worker: _Worker, command: Shutdown | EndPeer) -> None:
        if worker.commands is not None:
            with contextlib.suppress(PipeFullError):  # it hangs, and is ended soon
                worker.commands.send(command, _SENDER)
