"""Keeps one worker alive and gives its death back to its requests as a retry.

A worker is replaced when its process ends, when its heartbeats stop, or when one step takes longer
than allowed. Requests in flight are then run once more (see `RequestStream`). A worker that never
becomes ready is not tried for ever: the first start decides at once, later ones after a few tries.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from itertools import count

import zmq

from artesian.config import EngineConfig, ServerConfig
from artesian.engine.base import (
    EngineInfo,
    EngineStats,
    InvalidRequestError,
    QueueFullError,
    Request,
    RequestOutput,
)
from artesian.engine.questions import Question, Reply
from artesian.worker.base import (
    InternalEngineError,
    RequestDeadlineError,
    WorkerDiedError,
    WorkerState,
    WorkerUnavailableError,
)
from artesian.worker.channel import ChannelError, FrontChannel
from artesian.worker.client import ClusterStatus, MemberState, MemberStatus
from artesian.worker.hooks import Hooks
from artesian.worker.messages import (
    Abort,
    Admitted,
    Answer,
    Ask,
    Command,
    Fatal,
    Heartbeat,
    Outputs,
    Ready,
    Rejected,
    Report,
    Shutdown,
    Stats,
    Submit,
    WorkerSpec,
)
from artesian.worker.process import WORKER_MODULE, ChildProcess
from artesian.worker.stream import RequestStream

logger = logging.getLogger(__name__)

ENGINE_FACTORY = "artesian.engine.factory:create_engine"
WORKER_ID = "w1"
MAX_FAILED_STARTS = 3
BACKOFF_START_S = 0.25
BACKOFF_MAX_S = 30.0
# A worker that lived for so long was sound: its successor starts without delay.
SOUND_LIFE_S = 60.0
WATCH_INTERVAL_S = 0.5
STOP_TIMEOUT_S = 3.0
# The longest step and a bit: questions are answered between steps.
ANSWER_TIMEOUT_S = 30.0


class Supervisor:
    """An `EngineClient` over one worker, a child of the front.

    `failure` says why the last worker could not be started; `on_failure` is called then, with that
    text.
    """

    def __init__(
        self,
        engine_config: EngineConfig,
        server_config: ServerConfig,
        engine_factory: str = ENGINE_FACTORY,
        on_failure: Callable[[str], None] | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.info: EngineInfo | None = None
        self.stats = EngineStats()
        self.state: WorkerState = "starting"
        self.num_restarts = 0
        self.failure: str | None = None
        self.pid: int | None = None
        self.max_in_flight_sequences = engine_config.max_num_seqs + engine_config.max_queue_len
        # The front keeps the queue's limit, so that it can answer at once; the engine's own has to
        # have room for everything that comes again when a worker is replaced.
        self._engine_config = engine_config.model_copy(
            update={"max_queue_len": self.max_in_flight_sequences}
        )
        self._server_config = server_config
        self._engine_factory = engine_factory
        self._on_failure = on_failure
        self.hooks = hooks or Hooks()
        self._streams: dict[str, RequestStream] = {}
        self._num_sequences = 0
        self._call_ids = count()
        self._answers: dict[int, asyncio.Future[Reply]] = {}
        self._channel: FrontChannel | None = None
        self._ready = asyncio.Event()
        self._last_words: str | None = None
        self._heard = self._step_s = 0.0
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def num_in_flight(self) -> int:
        """Requests submitted and not finished."""
        return len(self._streams)

    def start(self) -> None:
        """Starts the first worker; `wait_ready` tells when it can be used."""
        self._task = asyncio.create_task(self._supervise())

    async def wait_ready(self) -> None:
        """Waits for a worker to be ready, or for the last attempt to fail."""
        await self._ready.wait()

    async def close(self) -> None:
        """Ends the worker; requests still in flight fail."""
        if self.state != "failed":
            self.state = "stopped"
        self.fail_all("the server is shutting down")
        self._stopping.set()
        if self._task is not None:
            await self._task

    def check_capacity(self, num_sequences: int) -> None:
        """Checks that so many more sequences may come.

        Raises:
            InvalidRequestError: they never may.
            QueueFullError: they may not now.
        """
        if num_sequences > self.max_in_flight_sequences:
            raise InvalidRequestError(
                f"the request asks for {num_sequences} completions at once; "
                f"at most {self.max_in_flight_sequences} are possible"
            )
        if self._num_sequences + num_sequences > self.max_in_flight_sequences:
            raise QueueFullError(
                f"the queue is full: {self._num_sequences} sequences run or wait "
                f"of at most {self.max_in_flight_sequences}; try again later"
            )

    async def submit(self, request: Request, max_buffered_tokens: int) -> RequestStream:
        """Hands a request to the worker and waits until it is queued there.

        Raises:
            InvalidRequestError: it can never run.
            QueueFullError: as many sequences as allowed run and wait already.
            WorkerUnavailableError: no worker is there, or it does not respond.
            InternalEngineError: a defect.
        """
        if self.info is None or self.state in ("failed", "stopped"):
            raise WorkerUnavailableError(f"the model is not available: the worker is {self.state}")
        self.check_capacity(request.sampling.n)
        stream = RequestStream(request, max_buffered_tokens)
        self._streams[request.request_id] = stream
        self._num_sequences += stream.num_sequences
        try:
            self.hooks.note(request.request_id, "arrived")
            if self.state == "ready":
                self._submit(stream)
            await stream.admitted
        except BaseException:
            self.abort(stream)
            raise
        return stream

    async def ask(self, question: Question) -> Reply:
        """Asks the worker; a question is never asked twice.

        Raises:
            WorkerUnavailableError: no worker is there, it ended, or it did not answer in time.
            InternalEngineError: a defect.
        """
        if self.state != "ready":
            raise WorkerUnavailableError(f"the model is not available: the worker is {self.state}")
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        call_id = next(self._call_ids)
        self._answers[call_id] = answer
        self._send(Ask(call_id, question))
        try:
            return await asyncio.wait_for(answer, ANSWER_TIMEOUT_S)
        except TimeoutError:
            message = f"the worker did not answer within {ANSWER_TIMEOUT_S:.0f} s"
            raise WorkerUnavailableError(message) from None
        finally:
            del self._answers[call_id]

    def abort(self, stream: RequestStream) -> None:
        """Gives a request up; nothing happens if it is finished."""
        request_id = stream.request.request_id
        if self._streams.get(request_id) is stream:
            self._forget(stream)
            if self.state == "ready":
                self._send(Abort(request_id))

    def fail_all(self, reason: str) -> None:
        """Ends all requests and questions in flight with a `WorkerUnavailableError`."""
        self._fail_answers(reason)
        for stream in list(self._streams.values()):
            stream.fail(WorkerUnavailableError(reason))
            self.abort(stream)

    def status(self) -> ClusterStatus:
        """The one worker at this moment."""
        states: dict[WorkerState, MemberState] = {"starting": "starting", "ready": "ready"}
        member = MemberStatus(
            worker_id=WORKER_ID,
            generation=self.num_restarts + 1,
            role="both",
            state=states.get(self.state, "dead"),
            pid=self.pid,
            num_in_flight=self.num_in_flight,
            silent_s=time.monotonic() - self._heard if self._heard else 0.0,
            stats=self.stats,
        )
        return ClusterStatus(members=[member])

    @property
    def _worker(self) -> str:
        return f"{WORKER_ID}.{self.num_restarts + 1}"

    def _submit(self, stream: RequestStream) -> None:
        """Gives a request to the worker, for the first time or once more."""
        try:
            request = stream.next_request()
        except RequestDeadlineError as error:
            stream.fail(error)
            self._forget(stream)
            return
        self.hooks.note(request.request_id, "routed", self._worker)
        self._send(Submit(request))

    def _forget(self, stream: RequestStream) -> None:
        request_id = stream.request.request_id
        if self._streams.pop(request_id, None) is not None:
            self._num_sequences -= stream.num_sequences
            self.hooks.leave(request_id, self._worker, stream.end)

    def _send(self, command: Command) -> None:
        assert self._channel is not None
        try:
            self._channel.send(command)
        except ChannelError as error:
            # The watch replaces such a worker; until then the request waits for its retry.
            logger.error("%s", error)

    async def _supervise(self) -> None:
        num_failed_starts = 0
        backoff_s = BACKOFF_START_S
        while self.state not in ("failed", "stopped"):
            started = time.monotonic()
            try:
                cause, was_ready = await self._run_worker()
            except (OSError, zmq.ZMQError) as error:
                cause, was_ready = f"could not be started: {error}", False
            if self.state == "stopped":
                return
            num_failed_starts = 0 if was_ready else num_failed_starts + 1
            if self.info is None or num_failed_starts >= MAX_FAILED_STARTS:
                self._give_up(cause)
                return
            logger.error("the worker %s; starting another", cause)
            self.state = "restarting"
            self.stats = EngineStats()
            self._mark_for_retry(cause)
            self.num_restarts += 1
            if time.monotonic() - started > SOUND_LIFE_S:
                backoff_s = BACKOFF_START_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    async def _run_worker(self) -> tuple[str, bool]:
        """Runs one worker to its end; returns why it ended and whether it had been ready."""
        self._ready.clear()
        self._last_words = None
        channel = self._channel = FrontChannel(self._on_report)
        process: ChildProcess | None = None
        try:
            process = ChildProcess(
                WORKER_MODULE,
                WorkerSpec(
                    engine_factory=self._engine_factory,
                    engine_config=self._engine_config.model_dump_json(),
                    command_endpoint=channel.command_endpoint,
                    report_endpoint=channel.report_endpoint,
                    log_level=self._server_config.log_level,
                ),
            )
            self.pid = process.pid
            cause = await self._watch(process)
            channel.drain()
            if self._last_words is not None:
                cause = f"stopped: {self._last_words}"
            return cause, self._ready.is_set()
        finally:
            if process is not None:
                process.close()
            self._channel = None
            channel.close()

    async def _watch(self, process: ChildProcess) -> str:
        """Waits for the worker's end, and brings it about if the worker hangs or is not needed."""
        self._heard, self._step_s = time.monotonic(), 0.0
        ended = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        while True:
            await asyncio.wait(
                {ended, stopping}, timeout=WATCH_INTERVAL_S, return_when=asyncio.FIRST_COMPLETED
            )
            if ended.done():
                stopping.cancel()
                return ended.result()
            if stopping.done():
                if self._ready.is_set():
                    self._send(Shutdown())
                    await asyncio.wait({ended}, timeout=STOP_TIMEOUT_S)
                process.kill()
                return await ended
            silent_s = time.monotonic() - self._heard
            cause = ""
            if silent_s > self._server_config.worker_heartbeat_timeout_s:
                cause = f"gave no sign of life for {silent_s:.0f} s"
            elif self._step_s > self._server_config.worker_step_timeout_s:
                cause = f"was stuck in one step for {self._step_s:.0f} s"
            if cause:
                stopping.cancel()
                process.kill()
                await ended
                return cause

    def _on_report(self, report: Report) -> None:
        self._heard = time.monotonic()
        match report:
            case Outputs(outputs):
                for output in outputs:
                    stream = self._streams.get(output.request_id)
                    if stream is not None:
                        self._push(stream, output)
            case Heartbeat(step_s):
                self._step_s = step_s
            case Stats(stats):
                self.stats = stats
            case Admitted(request_id):
                stream = self._streams.get(request_id)
                if stream is not None and not stream.admitted.done():
                    stream.admitted.set_result(None)
                    self.hooks.note(request_id, "admitted", self._worker)
            case Answer():
                self._on_answer(report)
            case Rejected():
                self._on_rejected(report)
            case Ready(info):
                self._on_ready(info)
            case Fatal(message):
                self._last_words = message

    def _push(self, stream: RequestStream, output: RequestOutput) -> None:
        is_first = stream.num_output_tokens == 0
        stream.push(output)
        if is_first and stream.num_output_tokens:
            self.hooks.note(output.request_id, "first_token", self._worker)
        if stream.finished:
            self._finish(stream)

    def _finish(self, stream: RequestStream) -> None:
        """The stream has ended; if the front ended it, the worker does not know yet."""
        if stream.error is not None:
            self.abort(stream)
        else:
            self._forget(stream)

    def _on_answer(self, report: Answer) -> None:
        answer = self._answers.get(report.call_id)
        if answer is None or answer.done():
            return
        if report.reply is None:
            answer.set_exception(InternalEngineError(report.error))
        else:
            answer.set_result(report.reply)

    def _on_rejected(self, report: Rejected) -> None:
        stream = self._streams.get(report.request_id)
        if stream is None:
            return
        errors = {"invalid": InvalidRequestError, "queue_full": QueueFullError}
        stream.fail(errors.get(report.kind, InternalEngineError)(report.message))
        self._forget(stream)

    def _on_ready(self, info: EngineInfo) -> None:
        if self.state == "stopped":
            return
        self.info = info
        self.state = "ready"
        self._ready.set()
        for stream in list(self._streams.values()):
            self._submit(stream)

    def _fail_answers(self, reason: str) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(WorkerUnavailableError(reason))

    def _mark_for_retry(self, cause: str) -> None:
        self._fail_answers(f"the worker {cause}")
        for stream in list(self._streams.values()):
            if stream.num_retries:
                stream.fail(
                    WorkerDiedError(f"the request was tried twice; each time the worker {cause}")
                )
                self._forget(stream)
                continue
            stream.num_retries += 1
            self.hooks.note(stream.request.request_id, "retried", self._worker, cause)

    def _give_up(self, cause: str) -> None:
        self.state = "failed"
        self.failure = self._last_words or f"the worker {cause}"
        self.fail_all(self.failure)
        self._ready.set()
        if self._on_failure is not None:
            self._on_failure(self.failure)
