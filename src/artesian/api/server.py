"""Runs the server: worker first, HTTP beside it, and an orderly end.

With several workers a keeper starts them and the front (see `artesian.cluster.keeper`), which is a
process of its own then and runs the same `Server`.

Nothing heavy is imported at the top: the worker's process starts before the front loads its own
modules, so that both start-ups overlap.
"""

import asyncio
import logging
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from artesian.config import EngineConfig, ServerConfig
from artesian.loader.base import Tokenizer
from artesian.worker.signals import ending_signals
from artesian.worker.supervisor import ENGINE_FACTORY, Supervisor

if TYPE_CHECKING:
    from uvicorn import Server as UvicornServer

    from artesian.api.state import ServerState
    from artesian.cluster.trace_files import Sinks
    from artesian.worker.client import EngineClient

logger = logging.getLogger(__name__)

TokenizerFactory = Callable[[EngineConfig, ServerConfig], Tokenizer]

EXIT_OK, EXIT_FAILURE = 0, 1
LISTEN_BACKLOG = 1024
# A client that takes none of what was sent to it for so long loses its connection.
SEND_TIMEOUT_MS = 60_000
DRAIN_POLL_S = 0.05
LAST_WORDS_S = 2.0
SPARE_FILES = 256


def run_server(
    engine_config: EngineConfig,
    server_config: ServerConfig,
    *,
    engine_factory: str | None = None,
    tokenizer_factory: TokenizerFactory | str | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> int:
    """Serves until SIGTERM or SIGINT.

    Args:
        engine_factory: `module:function` from `EngineConfig` to `Engine`, run in each worker;
            default: the real one, with peers if there are several.
        tokenizer_factory: makes the front's tokenizer; `module:function` if there are several
            workers; default: the checkpoint's.
        on_ready: called with the server's URL once requests can be served.

    Returns:
        The exit status: 0 after an orderly end, 1 if the model or the port cannot be used.
    """
    logging.basicConfig(
        level=server_config.log_level.upper(),
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    if server_config.is_cluster:
        from artesian.api.cluster import run_cluster
        from artesian.cluster.worker_engine import ENGINE_FACTORY as CLUSTER_FACTORY

        assert tokenizer_factory is None or isinstance(tokenizer_factory, str)
        return run_cluster(
            engine_config,
            server_config,
            engine_factory=engine_factory or CLUSTER_FACTORY,
            tokenizer_factory=tokenizer_factory or "",
            on_ready=on_ready,
        )
    assert not isinstance(tokenizer_factory, str)
    server = Server(engine_config, server_config, tokenizer_factory, on_ready)
    return asyncio.run(server.run(engine_factory or ENGINE_FACTORY))


class Server:
    """One run of the server, from the first process to the exit status."""

    def __init__(
        self,
        engine_config: EngineConfig,
        config: ServerConfig,
        tokenizer_factory: TokenizerFactory | None,
        on_ready: Callable[[str], None] | None,
        *,
        is_quiet: bool = False,
    ) -> None:
        """`is_quiet`: people were told of the start before."""
        self.failure: str | None = None
        self._started = time.monotonic()
        self._engine_config = engine_config
        self._config = config
        self._is_quiet = is_quiet
        self._tokenizer_factory = tokenizer_factory
        self._on_ready = on_ready
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._sinks: Sinks | None = None

    async def run(self, engine_factory: str) -> int:
        """Serves with one worker until a signal comes or that cannot be started."""
        try:
            listener = listen(self._config)
        except OSError as error:
            return fail(cannot_listen(self._config, error))
        supervisor = Supervisor(self._engine_config, self._config, engine_factory, self.give_up)
        supervisor.start()
        await asyncio.sleep(0)  # lets the worker's process start before other imports
        await self.serve(listener, url_of(self._config, listener), supervisor)
        return EXIT_OK if self.failure is None else fail(self.failure)

    async def serve(self, listener: socket.socket, url: str, engine: "EngineClient") -> None:
        """Serves until a signal comes or `give_up` is called; then closes the engine."""
        if not self._is_quiet:
            from artesian.api import banner

            banner.starting(self._engine_config.model, url)
        try:
            with ending_signals(self._on_signal):
                await self._serve(listener, url, engine)
        finally:
            await engine.close()

    async def _serve(self, listener: socket.socket, url: str, engine: "EngineClient") -> None:
        state = self._create_state(engine)
        http = _create_http_server(state)
        serving = asyncio.create_task(http.serve([listener]))
        getting_ready = asyncio.create_task(self._get_ready(state, url))
        await self._stop.wait()
        await self._drain(state)
        getting_ready.cancel()
        state.queue.close("the server is shutting down")
        await engine.close()
        await self._let_answers_out(state)
        http.should_exit = True
        await serving
        if state.encoder is not None:
            state.encoder.close()
        if self._sinks is not None:
            self._sinks.close()

    def _create_state(self, engine: "EngineClient") -> "ServerState":
        from artesian.api.auth import ApiKeys
        from artesian.api.queue import create_queue
        from artesian.api.state import ServerState, engine_counts, worker_counts
        from artesian.api.tracing import create_traces
        from artesian.cluster.traces import TraceBook
        from artesian.cluster.transfers import TransferWatch
        from artesian.metrics.serving import ServingMetrics

        metrics = ServingMetrics(
            lambda: engine_counts(engine, queue, transfers),
            self._config.vllm_metrics,
            lambda: engine.stats.context_tiers,
            lambda: worker_counts(engine),
        )
        transfers = TransferWatch(metrics)
        keys = ApiKeys(self._config.api_key)
        queue = create_queue(self._engine_config, self._config, engine, metrics)
        try:
            traces, self._sinks = create_traces(self._config)
        except ValueError as error:
            traces = TraceBook()
            self.give_up(str(error))
        engine.hooks.observe(traces)
        engine.hooks.observe(transfers)
        seed = self._engine_config.seed
        return ServerState(self._config, engine, queue, traces, transfers, keys, metrics, seed)

    async def _get_ready(self, state: "ServerState", url: str) -> None:
        from artesian.api import banner
        from artesian.api.prompts import PromptEncoder
        from artesian.api.tokenizer import create_tokenizer

        factory = self._tokenizer_factory or create_tokenizer
        try:
            tokenizer = await asyncio.to_thread(factory, self._engine_config, self._config)
        except (OSError, ValueError) as error:
            self.give_up(str(error))
            return
        except Exception as error:
            logger.exception("the tokenizer cannot be loaded")
            self.give_up(f"the tokenizer cannot be loaded: {type(error).__name__}: {error}")
            return
        state.encoder = PromptEncoder(tokenizer)
        await state.engine.wait_ready()
        if state.engine.info is not None:
            seconds = time.monotonic() - self._started
            if not self._is_quiet:
                banner.ready(state.engine.info, self._config, url, seconds)
            if self._on_ready is not None:
                self._on_ready(url)

    async def _drain(self, state: "ServerState") -> None:
        """Lets what runs finish, for a limited time, and refuses what comes."""
        state.draining = True
        if self.failure is not None:
            return
        deadline = time.monotonic() + self._config.drain_timeout_s
        if state.engine.num_in_flight:
            logger.info("finishing %d running requests", state.engine.num_in_flight)
        while state.num_connections and time.monotonic() < deadline and not self._hurry.is_set():
            await asyncio.sleep(DRAIN_POLL_S)

    async def _let_answers_out(self, state: "ServerState") -> None:
        """Requests that were cut off have an error on its way to the client."""
        deadline = time.monotonic() + LAST_WORDS_S
        while state.num_connections and time.monotonic() < deadline:
            await asyncio.sleep(DRAIN_POLL_S)

    def give_up(self, message: str) -> None:
        """Ends the server because of that; the first reason is the one that is told."""
        self.failure = self.failure or message
        self._stop.set()

    def _on_signal(self) -> None:
        """The first signal begins the drain, the second ends it."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()


def allow_connections(num_connections: int) -> None:
    """Raises the limit of open files for so many connections, as far as this user may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = num_connections + SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        needed = min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def listen(config: ServerConfig) -> socket.socket:
    """A listening socket; what it accepts inherits its limits. Raises `OSError`."""
    infos = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = infos[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SEND_TIMEOUT_MS)
        listener.bind(address)
        listener.listen(LISTEN_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _create_http_server(state: "ServerState") -> "UvicornServer":
    import uvicorn

    from artesian.api.app import create_app
    from artesian.api.connection import connection_class

    class HttpServer(uvicorn.Server):
        """Leaves the signals to us: uvicorn would stop listening before the drain."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    # Twice, so that those above the limit still get an answer that says so.
    max_connections = 2 * state.config.max_connections
    allow_connections(max_connections)
    settings = uvicorn.Config(
        create_app(state),
        http=connection_class(max_connections),
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=1,
        backlog=LISTEN_BACKLOG,
    )
    return HttpServer(settings)


def url_of(config: ServerConfig, listener: socket.socket) -> str:
    """Where clients find the server."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{host}:{listener.getsockname()[1]}"


def cannot_listen(config: ServerConfig, error: OSError) -> str:
    """What is wrong with the address, and what to do."""
    return (
        f"cannot listen on {config.host}:{config.port}: {error.strerror}; "
        "choose another --port, or 0 for a free one"
    )


def fail(message: str) -> int:
    """Says why the server ends; returns the exit status."""
    from artesian.api import banner

    banner.say(f"artesian: error: {message}")
    return EXIT_FAILURE
