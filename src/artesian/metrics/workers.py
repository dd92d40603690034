"""What each worker does, with the labels `worker` and `role`."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from artesian.engine.base import EngineStats

LABELS = ["worker", "role"]
GAUGES = {
    "worker_up": "1 if the worker takes or finishes requests, 0 if it is starting or dead",
    "worker_generation": "how many processes the worker has had",
    "worker_requests_running": "requests in the worker's batch",
    "worker_requests_waiting": "requests in the worker's queue",
    "worker_kv_usage_ratio": "share of the worker's KV blocks in use, 0 to 1",
    "worker_prefills_for_others": "prompts that it computes for other workers now",
}
COUNTERS = {
    "worker_generation_tokens": "tokens that the worker generated",
    "worker_computed_tokens": "rows of the worker's steps: prompt tokens that were not cached, "
    "and decode",
    "worker_busy_seconds": "time of the worker's steps",
}


class WorkerCounts(NamedTuple):
    """A worker at this moment."""

    worker: str
    role: str
    generation: int
    is_up: bool
    num_prefills: int
    stats: EngineStats


class WorkerCollector(Collector):
    """Turns the workers' counts into metrics; counters go on when a worker is replaced."""

    def __init__(self, prefix: str, workers: Callable[[], Sequence[WorkerCounts]]) -> None:
        self._prefix = prefix
        self._workers = workers
        self._past: dict[tuple[str, str], float] = {}
        self._last: dict[tuple[str, str], tuple[int, float]] = {}

    def collect(self) -> Iterator[Metric]:
        """The current metrics."""
        workers = self._workers()
        for name, text in GAUGES.items():
            gauge = GaugeMetricFamily(self._prefix + name, text, labels=LABELS)
            for worker in workers:
                gauge.add_metric([worker.worker, worker.role], _now(worker)[name])
            yield gauge
        for name, text in COUNTERS.items():
            counter = CounterMetricFamily(self._prefix + name, text, labels=LABELS)
            for worker in workers:
                value = self._total(worker, name, _counted(worker.stats)[name])
                counter.add_metric([worker.worker, worker.role], value)
            yield counter

    def _total(self, worker: WorkerCounts, name: str, count: float) -> float:
        key = worker.worker, name
        generation, last = self._last.get(key, (worker.generation, 0.0))
        if generation != worker.generation or count < last:
            self._past[key] = self._past.get(key, 0.0) + last
        self._last[key] = worker.generation, count
        return self._past.get(key, 0.0) + count


def _now(worker: WorkerCounts) -> dict[str, float]:
    return {
        "worker_up": float(worker.is_up),
        "worker_generation": worker.generation,
        "worker_requests_running": worker.stats.num_requests_running,
        "worker_requests_waiting": worker.stats.num_requests_waiting,
        "worker_kv_usage_ratio": worker.stats.kv_cache_usage_ratio,
        "worker_prefills_for_others": worker.num_prefills,
    }


def _counted(stats: EngineStats) -> dict[str, float]:
    return {
        "worker_generation_tokens": stats.generation_tokens,
        "worker_computed_tokens": stats.computed_tokens,
        "worker_busy_seconds": stats.busy_s,
    }
