"""Spans made of what observers are told, kept in memory and in files that stay bounded."""

import threading
from pathlib import Path

import msgspec
import pytest

from artesian.api.caller import REQUEST_ID, trace_parent
from artesian.cluster.trace_files import Sinks, TraceFiles, read_traces, trace_files
from artesian.cluster.traces import MAX_SPANS, OPEN_AT_END, Span, Trace, TraceBook
from artesian.worker.hooks import EventKind, RequestEvent


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def event(
    kind: EventKind, at_s: float, worker: str = "", detail: str = "", **values: float
) -> RequestEvent:
    return RequestEvent(
        request_id="r-0", kind=kind, time_s=at_s, worker=worker, detail=detail, values=values
    )


def span(trace: Trace, name: str, index: int = 0) -> Span:
    return [each for each in trace.spans if each.name == name][index]


def test_a_life_with_a_hand_over_and_a_retry() -> None:
    clock = Clock()
    finished: list[Trace] = []
    book = TraceBook(10, finished.append, clock, wall_clock=lambda: 1000.0 + clock.now)
    live = book.start(Trace(id="r", owner="k"), 99.0, ["r-0"])
    for each in (
        event("routed", 100.0, "w1.1"),
        event("admitted", 100.1, "w1.1"),
        event("prefill_wanted", 100.2, "w1.1", num_tokens=2000),
        event("prefill_picked", 100.3, "w2.1"),
        event("prefill_ended", 101.3, "w2.1", "done", queue_ms=200, prefill_ms=700, num_bytes=9),
        event("first_token", 101.4, "w1.1"),
        event("retried", 102.0, "w1.1", "was killed by SIGKILL"),
        event("routed", 102.1, "w1.2"),
        event("first_token", 102.2, "w1.2"),
        event("finished", 103.0, "w1.2", "length"),
    ):
        book.note(each)
    clock.now = 103.5
    book.finish(live, ["r-0"], "length")
    (trace,) = finished
    assert trace.started_s == 1099.0 and trace.duration_ms == 4500 and trace.num_retries == 1
    first, second = span(trace, "worker"), span(trace, "worker", 1)
    assert (first.start_ms, first.end_ms, first.worker) == (1000, 3000, "w1.1")
    assert first.outcome == "was killed by SIGKILL" and second.outcome == "length"
    handover, peer = span(trace, "hand-over"), span(trace, "peer")
    assert trace.spans[handover.parent] is first and trace.spans[peer.parent] is handover
    assert handover.values == {"num_tokens": 2000} and handover.outcome == "done"
    assert peer.worker == "w2.1" and peer.values["num_bytes"] == 9
    queued, computed = span(trace, "peer queue"), span(trace, "peer prefill")
    assert (queued.start_ms, queued.end_ms) == (1300, 1500)
    assert (computed.start_ms, computed.end_ms) == (1500, 2200)
    assert span(trace, "decode").end_ms == 3000 and span(trace, "decode", 1).end_ms == 4000
    book.note(event("routed", 104.0, "w9.9"))
    assert not any(each.worker == "w9.9" for each in trace.spans), "it is over"


def test_what_was_open_is_closed_and_what_is_unknown_ignored() -> None:
    clock = Clock()
    book = TraceBook(10, None, clock)
    live = book.start(Trace(id="r"), 100.0, ["r-0"])
    book.note(msgspec.structs.replace(event("routed", 101.0), request_id="other"))
    book.note(event("prefill_ended", 101.0, "w1.1", "failed"))
    book.note(event("routed", 101.0, "w1.1"))
    clock.now = 102.0
    book.finish(live, ["r-0"], "abort")
    assert [each.name for each in live.record.spans] == ["worker", "prefill"]
    assert {each.outcome for each in live.record.spans} == {OPEN_AT_END}


def test_a_peer_that_is_replaced_by_another() -> None:
    book = TraceBook(10, None, Clock())
    live = book.start(Trace(id="r"), 100.0, ["r-0"])
    book.note(event("routed", 100.0, "w1.1"))
    book.note(event("prefill_wanted", 100.0, "w1.1"))
    book.note(event("prefill_picked", 100.1, "w2.1"))
    book.note(event("prefill_picked", 100.4, "w3.1"))
    book.note(event("prefill_ended", 100.9, "w3.1", "done"))
    first, second = span(live.record, "peer"), span(live.record, "peer", 1)
    assert first.end_ms == 400 and second.outcome == "done"


def test_numbers_of_traces_and_spans_are_bounded() -> None:
    book = TraceBook(3, None, Clock())
    for number in range(10):
        live = book.start(Trace(id=f"r{number}", request_id="same", owner="k"), 100.0, [])
        book.finish(live, [], "stop")
    assert [trace.id for trace in book.recent()] == ["r9", "r8", "r7"]
    assert book.find("r1", "k") is None and book.find("r8", "other") is None
    found = book.find("same", "k")
    assert found is not None and found.id == "r9"
    live = book.start(Trace(id="long"), 100.0, ["r-0"])
    for _ in range(MAX_SPANS):
        book.note(event("routed", 101.0, "w1.1"))
        book.note(event("retried", 102.0, "w1.1"))
    book.note(event("first_token", 103.0))
    book.finish(live, ["r-0"], "error")
    assert len(live.record.spans) == MAX_SPANS and live.record.num_dropped_spans > MAX_SPANS


def test_files_are_rotated_and_the_oldest_go(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "traces"
    files = TraceFiles(directory, max_file_bytes=2000, max_files=3)
    for number in range(100):
        files.write(Trace(id=f"r{number}", spans=[Span(name="queue", start_ms=0.0)]))
    files.close()
    kept = trace_files(directory)
    assert len(kept) == 3 and all(path.stat().st_size <= 2000 for path in kept)
    assert directory.stat().st_mode & 0o077 == 0 and kept[0].stat().st_mode & 0o077 == 0
    ids = [trace.id for trace in read_traces(directory)]
    assert ids[0] == "r99" and ids == [f"r{99 - i}" for i in range(len(ids))] and len(ids) > 5


def test_cut_and_damaged_lines_are_left_out(tmp_path: Path) -> None:
    files = TraceFiles(tmp_path)
    files.write(Trace(id="a"))
    files.write(Trace(id="b"))
    files.close()
    (path,) = trace_files(tmp_path)
    path.write_bytes(path.read_bytes() + b'\xff\n{"id": 5}\n{"id":"c","spa')
    assert [trace.id for trace in read_traces(tmp_path)] == ["b", "a"]
    assert list(read_traces(tmp_path / "nothing")) == []


class Stuck:
    """A sink that takes for ever, then fails."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.num_written = 0

    def write(self, trace: Trace) -> None:
        self.num_written += 1
        self.go_on.wait(20)
        raise OSError("the disk is full")

    def flush(self) -> None:
        raise OSError("the disk is full")

    def close(self) -> None:
        raise OSError("the disk is full")


def test_a_sink_that_is_stuck_or_fails_holds_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stuck, files = Stuck(), TraceFiles(tmp_path)
    sinks = Sinks([stuck, files])
    for number in range(3000):
        sinks.put(Trace(id=f"r{number}"))
    assert sinks.num_dropped >= 3000 - 1024 - 2
    stuck.go_on.set()
    sinks.close()
    written = list(read_traces(tmp_path))
    assert len(written) == stuck.num_written == 3000 - sinks.num_dropped
    assert caplog.text.count("the disk is full") == 1, "told once"


def test_names_that_clients_give() -> None:
    assert REQUEST_ID.fullmatch(b"my-id_1:2.3/4+5=@")
    for bad in (b"", b"a b", b"a\nb", b"\xc3\xa9", b"x" * 129, b'"'):
        assert not REQUEST_ID.fullmatch(bad)
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    assert trace_parent(f"00-{trace}-{parent}-01".encode()) == (trace, parent)
    assert trace_parent(f"cc-{trace}-{parent}-01-what-may-come".encode()) == (trace, parent)
    for bad_header in (
        f"00-{trace}-{parent}-01-more",
        f"ff-{trace}-{parent}-01",
        f"00-{'0' * 32}-{parent}-01",
        f"00-{trace}-{'0' * 16}-01",
        f"00-{trace.upper()}-{parent}-01",
        "",
        "nonsense",
    ):
        assert trace_parent(bad_header.encode()) == ("", "")
