"""What happened to each API call: spans from its arrival to its last token, through all roles.

The front keeps the last ones in memory, for `/v1/traces` and the cluster page, and hands those that
are finished to where they are kept longer. A trace has no text and no token of anybody.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

import msgspec

from artesian.worker.hooks import RequestEvent

MAX_TRACES = 1024
MAX_SPANS = 200
"""Of one trace: calls with many prompts, or many retries, tell the first ones."""

OPEN_AT_END = "was open at the end"


class Span(msgspec.Struct, kw_only=True):
    """A part of a call's life.

    Attributes:
        name: `prepare`, `queue`, `worker`, `worker queue`, `prefill`, `decode`, `hand-over`,
            `peer`, `peer queue`, `peer prefill`.
        start_ms, end_ms: since the call's arrival; end None while it goes on.
        parent: index of the span that it is a part of; -1 for the call itself.
        worker: "ID.GENERATION", where it has to do with one.
        outcome: in a word or a line, where it can differ.
        values: tokens, bytes and milliseconds that belong to it.
    """

    name: str
    start_ms: float
    end_ms: float | None = None
    parent: int = -1
    worker: str = ""
    outcome: str = ""
    values: dict[str, float] = {}


class Trace(msgspec.Struct, kw_only=True):
    """One call.

    Attributes:
        id: of the response; request_id: of the `x-request-id` header.
        trace_id, parent_id: of the `traceparent` header, in hex; empty if there was none.
        owner: who may see it: see `key_of`.
        started_s: time of day; duration_ms: None while it runs.
        status: running, stop, length, abort, error, or why it was refused.
        ttft_ms: from arrival to first token.
        num_dropped_spans: beyond `MAX_SPANS`.
    """

    id: str
    request_id: str = ""
    trace_id: str = ""
    parent_id: str = ""
    owner: str = ""
    started_s: float = 0.0
    duration_ms: float | None = None
    status: str = "running"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    ttft_ms: float | None = None
    num_retries: int = 0
    num_dropped_spans: int = 0
    spans: list[Span] = []


class _Part:
    """The open spans of one of a call's requests."""

    def __init__(self, trace: "LiveTrace") -> None:
        self.trace = trace
        self.worker: int | None = None
        self.stage: int | None = None
        self.handover: int | None = None
        self.peer: int | None = None


class LiveTrace:
    """A trace that is being written; `origin_s` is the arrival on the monotonic clock."""

    def __init__(self, record: Trace, origin_s: float) -> None:
        self.record = record
        self.origin_s = origin_s

    def begin(
        self, name: str, at_s: float, parent: int | None = None, worker: str = ""
    ) -> int | None:
        """A span begins; its number, or None if there are too many."""
        spans = self.record.spans
        if len(spans) >= MAX_SPANS:
            self.record.num_dropped_spans += 1
            return None
        span = Span(
            name=name,
            start_ms=self._ms(at_s),
            parent=-1 if parent is None else parent,
            worker=worker,
        )
        spans.append(span)
        return len(spans) - 1

    def end(
        self,
        number: int | None,
        at_s: float,
        outcome: str = "",
        values: dict[str, float] | None = None,
    ) -> None:
        """A span ends, if it has not."""
        if number is None:
            return
        span = self.record.spans[number]
        if span.end_ms is None:
            span.end_ms = self._ms(at_s)
            span.outcome = outcome or span.outcome
            self.set_values(number, values or {})

    def set_values(self, number: int | None, values: dict[str, float]) -> None:
        """Numbers that belong to a span, beside those that it has."""
        if number is not None and values:
            span = self.record.spans[number]
            span.values = {**span.values, **values}

    def add(
        self, name: str, start_s: float, end_s: float, parent: int | None = None, worker: str = ""
    ) -> None:
        """A span whose both ends are known."""
        self.end(self.begin(name, start_s, parent, worker), end_s)

    def split_prefill(self, queue_ms: float | None) -> None:
        """What of the first prefill was waiting at the worker, unless a peer had it meanwhile."""
        names = [span.name for span in self.record.spans]
        if queue_ms is None or "prefill" not in names or "hand-over" in names:
            return
        number = names.index("prefill")
        span = self.record.spans[number]
        if span.end_ms is not None and len(self.record.spans) < MAX_SPANS:
            end_ms = min(span.end_ms, span.start_ms + round(queue_ms, 3))
            queued = Span(
                name="worker queue",
                start_ms=span.start_ms,
                end_ms=end_ms,
                parent=number,
                worker=span.worker,
            )
            self.record.spans.append(queued)

    def finish(self, at_s: float) -> None:
        """Nothing goes on any more."""
        self.record.duration_ms = self._ms(at_s)
        for number in range(len(self.record.spans)):
            self.end(number, at_s, OPEN_AT_END)

    def _ms(self, at_s: float) -> float:
        return round(max(0.0, at_s - self.origin_s) * 1e3, 3)


class TraceBook:
    """The last traces, an `Observer` of their requests.

    `on_finished` gets each trace once, when it is finished; it must not wait.
    """

    def __init__(
        self,
        max_traces: int = MAX_TRACES,
        on_finished: Callable[[Trace], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._max_traces = max_traces
        self._on_finished = on_finished
        self._clock = clock
        self._wall_clock = wall_clock
        self._traces: OrderedDict[str, LiveTrace] = OrderedDict()
        self._parts: dict[str, _Part] = {}

    def __len__(self) -> int:
        return len(self._traces)

    def start(self, record: Trace, origin_s: float, request_ids: list[str]) -> LiveTrace:
        """A call that arrived at `origin_s` and becomes these requests."""
        record.started_s = self._wall_clock() - (self._clock() - origin_s)
        live = self._traces[record.id] = LiveTrace(record, origin_s)
        self._parts.update((request_id, _Part(live)) for request_id in request_ids)
        while len(self._traces) > self._max_traces:
            self._traces.popitem(last=False)
        return live

    def finish(self, live: LiveTrace, request_ids: list[str], status: str) -> None:
        """The call is over; what comes for its requests is not listened to any more."""
        for request_id in request_ids:
            self._parts.pop(request_id, None)
        live.record.status = status
        live.finish(self._clock())
        if self._on_finished is not None:
            self._on_finished(live.record)

    def find(self, name: str, owner: str) -> Trace | None:
        """An owner's trace by the response's id or the request's: the last one that has it."""
        live = self._traces.get(name)
        if live is not None and live.record.owner == owner:
            return live.record
        own = (trace for trace in self.recent() if trace.owner == owner)
        return next((trace for trace in own if trace.request_id == name), None)

    def recent(self) -> Iterator[Trace]:
        """The newest first."""
        for live in reversed(self._traces.values()):
            yield live.record

    def note(self, event: RequestEvent) -> None:
        """See `Observer`."""
        part = self._parts.get(event.request_id)
        if part is None:
            return
        trace, at_s, worker = part.trace, event.time_s, event.worker
        match event.kind:
            case "routed":
                part.worker = trace.begin("worker", at_s, None, worker)
                part.stage = trace.begin("prefill", at_s, part.worker, worker)
            case "first_token":
                trace.end(part.stage, at_s)
                part.stage = trace.begin("decode", at_s, part.worker, worker)
            case "retried" | "finished":
                self._leave_worker(part, event)
            case "prefill_wanted":
                part.handover = trace.begin("hand-over", at_s, part.worker, worker)
                trace.set_values(part.handover, event.values)
            case "prefill_picked":
                trace.end(part.peer, at_s, "another peer was picked")
                part.peer = trace.begin("peer", at_s, part.handover, worker)
            case "prefill_ended":
                self._end_handover(part, event)

    def _leave_worker(self, part: _Part, event: RequestEvent) -> None:
        trace, at_s = part.trace, event.time_s
        if event.kind == "retried":
            trace.record.num_retries += 1
        for number in (part.peer, part.handover, part.stage):
            trace.end(number, at_s)
        trace.end(part.worker, at_s, event.detail)
        part.worker = part.stage = part.handover = part.peer = None

    def _end_handover(self, part: _Part, event: RequestEvent) -> None:
        """The peer tells how long its queue and its computing took, one behind the other."""
        trace, at_s, values = part.trace, event.time_s, event.values
        if part.peer is not None:
            start_s = trace.origin_s + trace.record.spans[part.peer].start_ms / 1e3
            between_s = start_s + values.get("queue_ms", 0.0) / 1e3
            if values.get("prefill_ms", 0.0) > 0 and between_s < at_s:
                trace.add("peer queue", start_s, between_s, part.peer, event.worker)
                until_s = min(at_s, between_s + values["prefill_ms"] / 1e3)
                trace.add("peer prefill", between_s, until_s, part.peer, event.worker)
        trace.end(part.peer, at_s, event.detail, values)
        trace.end(part.handover, at_s, event.detail)
        part.peer = part.handover = None
