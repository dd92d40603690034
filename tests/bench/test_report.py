"""Arrivals, and the arithmetic of a report."""

import math

import pytest

from artesian.bench import RequestTiming, Workload, summarize


def test_report_of_two_requests_and_a_failure() -> None:
    timings = [
        RequestTiming(10.0, [10.1, 10.2, 10.4], 7, 2, 3),
        RequestTiming(11.0, [11.3], 7, 0, 1),
        RequestTiming(12.0, error="HTTP 429"),
        RequestTiming(12.0),
    ]
    report = summarize(timings, 2.0)
    assert (report.num_completed, report.num_failed) == (2, 2)
    assert report.errors == {"HTTP 429": 1, "no output": 1}
    assert (report.num_prompt_tokens, report.num_cached_tokens) == (14, 2)
    assert report.output_tokens_per_s == 2.0
    assert report.total_tokens_per_s == 9.0
    assert report.latencies_ms["TTFT"]["mean"] == pytest.approx(200)
    assert report.latencies_ms["TPOT"] == pytest.approx(
        {"mean": 150, "p50": 150, "p90": 150, "p99": 150}
    )
    assert report.latencies_ms["ITL"]["p50"] == pytest.approx(150)
    assert report.latencies_ms["E2E"]["mean"] == pytest.approx(350)


def test_nothing_completed() -> None:
    assert summarize([RequestTiming(0.0, error="x")], 1.0).latencies_ms["TTFT"] == {}


def test_arrivals_have_the_rate_asked_for() -> None:
    arrivals = list(Workload(2000, 1, 1, request_rate=10.0).arrivals_s())
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] == pytest.approx(200, rel=0.1)
    assert arrivals == list(Workload(2000, 1, 1, request_rate=10.0).arrivals_s())
    assert list(Workload(3, 1, 1, math.inf).arrivals_s()) == [0, 0, 0]
