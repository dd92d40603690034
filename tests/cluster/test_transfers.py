"""What the metrics and the page say about hand-overs and workers."""

from artesian.cluster.transfers import TransferWatch
from artesian.engine.base import EngineStats
from artesian.metrics.serving import COUNTERS, GAUGES, ServingMetrics
from artesian.metrics.workers import WorkerCounts
from artesian.worker.hooks import EventKind, RequestEvent


def event(
    request: str, kind: EventKind, at_s: float, detail: str = "", **values: float
) -> RequestEvent:
    return RequestEvent(request_id=request, kind=kind, time_s=at_s, detail=detail, values=values)


def no_counts() -> dict[str, float]:
    return dict.fromkeys([*GAUGES, *COUNTERS], 0.0)


def test_outcomes_bytes_and_times_are_counted() -> None:
    metrics = ServingMetrics(no_counts)
    watch = TransferWatch(metrics)
    watch.note(event("a", "prefill_wanted", 1.0))
    watch.note(event("b", "prefill_wanted", 1.0))
    assert watch.num_open == 2
    watch.note(event("a", "prefill_ended", 1.5, "done", num_bytes=1000))
    watch.note(event("b", "prefill_ended", 2.0, "failed", num_bytes=10))
    watch.note(event("c", "prefill_ended", 2.0, "refused"))
    assert watch.num_open == 0 and watch.mean_ms == 500
    assert watch.num_ended == {"done": 1, "failed": 1, "refused": 1} and watch.num_bytes == 1010
    text = metrics.exposition().decode()
    assert 'artesian_handovers_total{outcome="failed"} 1.0' in text
    assert "artesian_handover_bytes_total 1010.0" in text
    assert "artesian_handover_seconds_sum 0.5" in text


def test_the_offload_ratio_is_of_those_that_decode() -> None:
    watch = TransferWatch(ServingMetrics(no_counts))
    assert watch.offload_ratio() == 0
    for name, is_kept in (("a", 1.0), ("b", 0.0), ("c", 1.0)):
        watch.note(event(name, "prefill_wanted", 1.0))
        watch.note(event(name, "prefill_ended", 2.0, "done", is_kept=is_kept))
    assert watch.offload_ratio() == 0, "none decodes yet"
    for name in "abc":
        watch.note(event(name, "first_token", 3.0))
    assert watch.offload_ratio() == 2 / 3
    watch.note(event("a", "retried", 4.0))
    assert watch.offload_ratio() == 1 / 2
    for name in "bc":
        watch.note(event(name, "finished", 5.0))
    assert watch.offload_ratio() == 0


def test_workers_have_labels_and_their_counters_outlive_them() -> None:
    workers: list[WorkerCounts] = []
    metrics = ServingMetrics(no_counts, workers=lambda: workers)

    def see(generation: int, tokens: int) -> str:
        stats = EngineStats(generation_tokens=tokens, kv_cache_usage_ratio=0.5)
        workers[:] = [WorkerCounts("w1", "decode", generation, True, 0, stats)]
        return metrics.exposition().decode()

    labels = '{role="decode",worker="w1"}'
    assert f"artesian_worker_generation_tokens_total{labels} 10.0" in see(1, 10)
    assert f"artesian_worker_generation_tokens_total{labels} 13.0" in see(2, 3)
    text = see(2, 7)
    assert f"artesian_worker_generation_tokens_total{labels} 17.0" in text
    assert f"artesian_worker_kv_usage_ratio{labels} 0.5" in text
    assert f"artesian_worker_generation{labels} 2.0" in text
