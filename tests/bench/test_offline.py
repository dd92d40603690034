"""A workload on the tests' toy engine."""

import pytest

from artesian.bench import Workload, summarize
from artesian.bench.offline import run_offline
from tests.engine.toy import make_engine


def test_every_request_is_timed_and_sized() -> None:
    engine = make_engine()
    workload = Workload(5, input_len_tokens=9, output_len_tokens=4, max_concurrency=2)
    timings, duration_s = run_offline(engine, engine.info().vocab_size, workload)
    report = summarize(timings, duration_s)
    assert (report.num_completed, report.num_failed) == (5, 0)
    assert (report.num_prompt_tokens, report.num_output_tokens) == (45, 20)
    assert all(len(timing.output_s) == 4 for timing in timings)
    assert not engine.has_work()


def test_arrivals_are_waited_for() -> None:
    engine = make_engine()
    workload = Workload(3, 4, 2, request_rate=40.0, seed=1)
    timings, duration_s = run_offline(engine, engine.info().vocab_size, workload)
    started = [timing.started_s for timing in timings]
    assert started[-1] - started[0] == pytest.approx(max(workload.arrivals_s()))
    assert duration_s >= started[-1] - started[0]
