"""Spans at a real collector's door: OTLP over HTTP, decoded with OpenTelemetry's own messages."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from artesian.cluster.traces import Span, Trace


class Collector(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[bytes] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        self.server.bodies.append(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_spans_arrive_below_the_clients_span() -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="pip install .[otel]")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from artesian.cluster.otel import OtelExporter

    collector = Collector()
    exporter = OtelExporter(f"http://127.0.0.1:{collector.server_port}/v1/traces")
    spans = [
        Span(name="worker", start_ms=5.0, end_ms=40.0, worker="w1.1", outcome="length"),
        Span(name="decode", start_ms=10.0, end_ms=40.0, parent=0, values={"num_tokens": 3.0}),
    ]
    exporter.write(
        Trace(
            id="cmpl-1",
            trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
            parent_id="00f067aa0ba902b7",
            started_s=1000.0,
            duration_ms=50.0,
            prompt_tokens=7,
            spans=spans,
        )
    )
    exporter.close()
    collector.shutdown()
    found = {}
    for body in collector.bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                found.update({span.name: span for span in scope.spans})
    root, worker, decode = found["request"], found["worker"], found["decode"]
    assert root.trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert root.parent_span_id.hex() == "00f067aa0ba902b7"
    assert worker.parent_span_id == root.span_id and decode.parent_span_id == worker.span_id
    assert root.start_time_unix_nano == 1000 * 10**9
    assert root.end_time_unix_nano - root.start_time_unix_nano == 50 * 10**6
    assert decode.start_time_unix_nano - root.start_time_unix_nano == 10 * 10**6
    attributes = {each.key: each.value for each in root.attributes}
    assert attributes["gen_ai.usage.input_tokens"].int_value == 7
