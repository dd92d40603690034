"""The trace of one API call, and where traces go."""

import time

from artesian.api.caller import Caller
from artesian.api.usage import UsageMeter
from artesian.cluster.overload import OverloadError
from artesian.cluster.trace_files import Sinks, TraceFiles, TraceSink, default_directory
from artesian.cluster.traces import MAX_TRACES, LiveTrace, Trace, TraceBook
from artesian.config import ServerConfig


class CallTrace:
    """Tells a `TraceBook` of the parts of a call that happen in the front."""

    def __init__(self, book: TraceBook, caller: Caller, call_id: str, requests: list[str]) -> None:
        self._book = book
        self._caller = caller
        self._call_id = call_id
        self._requests = requests
        self._meter: UsageMeter | None = None
        self._live: LiveTrace | None = None
        self._queue: int | None = None

    def begin(self, meter: UsageMeter) -> None:
        """The call is checked and its prompts are tokens; it goes into the queue."""
        caller = self._caller
        record = Trace(
            id=self._call_id,
            request_id=caller.request_id,
            trace_id=caller.trace_id,
            parent_id=caller.parent_id,
            owner=caller.key,
            prompt_tokens=meter.prompt_tokens,
        )
        now = time.monotonic()
        self._meter = meter
        self._live = self._book.start(record, caller.started_s, self._requests)
        self._live.add("prepare", caller.started_s, now)
        self._queue = self._live.begin("queue", now)

    def leave_queue(self) -> None:
        """It is the call's turn."""
        if self._live is not None:
            self._live.end(self._queue, time.monotonic())

    def fail(self, error: BaseException) -> None:
        """It could not begin."""
        status = error.reason if isinstance(error, OverloadError) else type(error).__name__
        self.finish("abort" if status == "CancelledError" else status)

    def finish(self, status: str) -> None:
        """It is over."""
        live, meter = self._live, self._meter
        if live is None or meter is None:
            return
        record = live.record
        record.cached_tokens = meter.cached_tokens
        record.output_tokens = meter.completion_tokens
        record.ttft_ms = meter.ttft_ms
        if len(self._requests) == 1 and not record.num_retries:
            live.split_prefill(meter.worker_queue_ms)
        self._book.finish(live, self._requests, status)
        self._live = None


def create_traces(config: ServerConfig) -> tuple[TraceBook, Sinks | None]:
    """The book and its sinks. Raises `ValueError` for a sink that is not installed."""
    sinks: list[TraceSink] = []
    if config.traces == "files":
        sinks.append(TraceFiles(config.trace_dir or default_directory()))
    if config.otlp_endpoint is not None:
        from artesian.cluster.otel import OtelExporter

        sinks.append(OtelExporter(config.otlp_endpoint))
    if not sinks:
        return TraceBook(0 if config.traces == "off" else MAX_TRACES), None
    threads = Sinks(sinks)
    return TraceBook(MAX_TRACES, threads.put), threads
