"""What `artesian serve` is when there are several workers: it starts everything and looks after it.

The keeper holds the listening socket, so that a new front goes on where the last one ended, and
decides who is dead: a process is dead once it was reaped, and one that gives no sign of life is
ended. It serves no requests itself.
"""

import asyncio
import contextlib
import logging
import shutil
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

from artesian.cluster.base import (
    ChangeAsked,
    ChangeDone,
    ClusterError,
    Ended,
    FrontFailed,
    FrontPulse,
    FrontSpec,
    ToFront,
    ToKeeper,
)
from artesian.cluster.child import Child
from artesian.cluster.context_pool import ContextPool
from artesian.cluster.plan import divide, roles
from artesian.cluster.run_directory import RunDirectory
from artesian.cluster.worker_group import Plan, WorkerGroup
from artesian.config import EngineConfig, ServerConfig
from artesian.worker.messages import LastWords, Pulse
from artesian.worker.pipes import Inbox, Outbox, PipeFullError
from artesian.worker.process import ChildProcess
from artesian.worker.signals import ending_signals

logger = logging.getLogger(__name__)

FRONT_MODULE = "artesian.api.front"
FRONT_LAST_WORDS_S = 6.0
"""A front that drains takes so much longer than the drain."""


@dataclass(frozen=True, kw_only=True)
class KeeperSettings:
    """What a keeper starts.

    Attributes:
        engine_factory, tokenizer_factory: `module:function`; the second may be empty.
        listener: bound, listening; url: where clients find it.
        on_ready: called once requests can be served.
    """

    engine_config: EngineConfig
    server_config: ServerConfig
    engine_factory: str
    tokenizer_factory: str
    listener: socket.socket
    url: str
    on_ready: Callable[[], None]


class Keeper:
    """One run of a cluster, from the first process to the last."""

    def __init__(self, settings: KeeperSettings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._failure: str | None = None
        self._num_signals = 0
        self._is_stopping = False
        self._to_front: Outbox | None = None
        self._changes: set[asyncio.Task[None]] = set()
        self._was_front_ready = False
        self._pool: ContextPool | None = None

    async def run(self) -> str | None:
        """Serves until a signal comes; returns why it could not, or None.

        Raises:
            ClusterError: the cluster cannot be.
            OSError, PoolError: the system or the pool refuses.
        """
        config = self._settings.server_config
        port = self._settings.listener.getsockname()[1]
        with (
            RunDirectory(config.cluster_name or f"c{port}") as directory,
            contextlib.ExitStack() as stack,
        ):
            self._directory = directory
            engine_config = self._settings.engine_config
            shares = divide(engine_config, config)
            if config.memory_nodes:
                self._pool = ContextPool(engine_config, config.memory_nodes, directory)
                stack.callback(self._pool.close)
            plan = Plan(
                engine_config=engine_config,
                server_config=config,
                engine_factory=self._settings.engine_factory,
                shares=shares,
                keeper_endpoint=directory.endpoint("keeper"),
            )
            self._workers = WorkerGroup(plan, directory, self._pool, self._changed)
            self._front = Child(
                "the front",
                self._spawn_front,
                self._front_changed,
                config.worker_heartbeat_timeout_s,
                config.worker_step_timeout_s,
            )
            inbox: Inbox[ToKeeper] = Inbox(directory.endpoint("keeper"), ToKeeper, self._on_message)
            stack.callback(inbox.close)
            await self._keep()
        return self._failure

    async def _keep(self) -> None:
        """Everything runs, and ends in order."""
        for role in roles(self._settings.server_config):
            self._workers.add(role)
        with ending_signals(self._on_signal):
            front = asyncio.create_task(self._front.keep(lambda: True))
            try:
                await self._stop.wait()
                await self._stop_front()
                await front
            finally:
                self._is_stopping = True
                self._front.kill()
                await self._workers.close()
                if self._to_front is not None:
                    self._to_front.close()

    async def _stop_front(self) -> None:
        """A front that is asked to end lets its requests finish, for a limited time."""
        config = self._settings.server_config
        timeout_s = 0.0 if self._failure else config.drain_timeout_s
        await self._front.stop(
            lambda: self._front.send_signal(signal.SIGTERM), timeout_s + FRONT_LAST_WORDS_S
        )

    def _spawn_front(self, generation: int) -> ChildProcess:
        settings, directory = self._settings, self._directory
        shutil.rmtree(directory.path / f"front-{generation - 1}", ignore_errors=True)
        own = directory.path / f"front-{generation}"
        own.mkdir()
        inbox = directory.endpoint(f"front-{generation}/inbox")
        spec = FrontSpec(
            engine_config=settings.engine_config.model_dump_json(),
            server_config=settings.server_config.model_dump_json(),
            tokenizer_factory=settings.tokenizer_factory,
            listener=settings.listener.fileno(),
            url=settings.url,
            generation=generation,
            directory=str(own),
            keeper_endpoint=directory.endpoint("keeper"),
            inbox_endpoint=inbox,
            cluster=directory.cluster,
        )
        if self._to_front is not None:
            self._to_front.close()
        process = ChildProcess(FRONT_MODULE, spec, (settings.listener.fileno(),))
        self._to_front = Outbox(inbox)
        self._tell_front(self._workers.membership())
        return process

    def _on_message(self, message: ToKeeper) -> None:
        match message:
            case Pulse():
                self._workers.pulse(message)
            case LastWords():
                self._workers.last_words(message)
            case FrontPulse(generation, is_ready):
                self._front.pulse(generation, is_ready)
            case FrontFailed(generation, text):
                if generation == self._front.generation:
                    self._end(text)
            case ChangeAsked():
                task = asyncio.create_task(self._change(message))
                self._changes.add(task)
                task.add_done_callback(self._changes.discard)

    async def _change(self, asked: ChangeAsked) -> None:
        generation = self._front.generation
        try:
            worker_id, error = await self._workers.change(asked.change), ""
        except ClusterError as refusal:
            worker_id, error = "", str(refusal)
        # Another front has not asked.
        if generation == self._front.generation:
            self._tell_front(ChangeDone(asked.call_id, worker_id, error))

    def _changed(self) -> None:
        """Something is new about a worker."""
        self._tell_front(self._workers.membership())
        failure = self._workers.failure
        if failure is not None and not self._is_stopping and not self._stop.is_set():
            self._tell_front(Ended(failure))
            self._end(failure)

    def _front_changed(self, front: Child) -> None:
        pids = self._workers.pids()
        self._directory.note_processes(pids + ([front.process.pid] if front.process else []))
        if front.has_failed:
            self._end(f"the front {front.cause}")
        elif front.is_ready and not self._was_front_ready:
            self._was_front_ready = True
            self._settings.on_ready()

    def _tell_front(self, message: ToFront) -> None:
        if self._to_front is not None:
            with contextlib.suppress(PipeFullError):  # it hangs, and is ended soon
                self._to_front.send(message)

    def _end(self, failure: str) -> None:
        self._failure = self._failure or failure
        self._stop.set()

    def _on_signal(self) -> None:
        """The first signal begins the end, the second hurries it."""
        self._num_signals += 1
        if self._num_signals > 1:
            self._front.send_signal(signal.SIGTERM)
        self._stop.set()
