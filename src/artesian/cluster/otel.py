"""Traces as OpenTelemetry spans to a collector, with the optional extra `[otel]`.

The SDK's own thread sends them in batches from a bounded queue and drops what does not fit: a
collector that is dead or slow changes nothing for requests.
"""

import logging
from typing import Any

from artesian.cluster.traces import Trace

SERVICE = "artesian"
EXPORT_TIMEOUT_S = 5
SHUTDOWN_TIMEOUT_MS = 1000


class OtelExporter:
    """A sink of traces that sends them by OTLP over HTTP."""

    def __init__(self, endpoint: str) -> None:
        """`endpoint`: the collector's address for traces, such as http://localhost:4318/v1/traces.

        Raises:
            ValueError: the extra is not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise ValueError(
                "otlp_endpoint needs the packages of the extra [otel]: pip install 'artesian[otel]'"
            ) from error
        # It tells of every batch that could not be sent, with a traceback.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S)
        self._provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer: Any = self._provider.get_tracer("artesian.cluster")

    def write(self, trace: Trace) -> None:
        """Queues the spans of one trace; the call itself is the root, below the client's span."""
        from opentelemetry import trace as api

        start_ns = int(trace.started_s * 1e9)
        root = self._tracer.start_span(
            "request", context=_parent(trace), start_time=start_ns, attributes=_call(trace)
        )
        spans: list[Any] = []
        for span in trace.spans:
            parent = root if span.parent < 0 else spans[span.parent]
            attributes: dict[str, Any] = dict(span.values)
            if span.worker:
                attributes["artesian.worker"] = span.worker
            if span.outcome:
                attributes["artesian.outcome"] = span.outcome
            made = self._tracer.start_span(
                span.name,
                context=api.set_span_in_context(parent),
                start_time=start_ns + round(span.start_ms * 1e6),
                attributes=attributes,
            )
            spans.append(made)
            end_ms = span.start_ms if span.end_ms is None else span.end_ms
            made.end(start_ns + round(end_ms * 1e6))
        root.end(start_ns + round((trace.duration_ms or 0.0) * 1e6))

    def flush(self) -> None:
        """The SDK sends what it has when it likes."""

    def close(self) -> None:
        """Gives up what could not be sent soon."""
        self._provider.force_flush(SHUTDOWN_TIMEOUT_MS)
        self._provider.shutdown()


def _call(trace: Trace) -> dict[str, Any]:
    return {
        "gen_ai.response.id": trace.id,
        "gen_ai.usage.input_tokens": trace.prompt_tokens,
        "gen_ai.usage.output_tokens": trace.output_tokens,
        "artesian.cached_tokens": trace.cached_tokens,
        "artesian.status": trace.status,
        "artesian.request_id": trace.request_id,
    }


def _parent(trace: Trace) -> Any:
    """The client's span, as its `traceparent` header named it; None without one."""
    if not trace.trace_id:
        return None
    from opentelemetry import trace as api

    context = api.SpanContext(
        int(trace.trace_id, 16),
        int(trace.parent_id, 16),
        is_remote=True,
        trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED),
    )
    return api.set_span_in_context(api.NonRecordingSpan(context))
