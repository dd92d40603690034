"""What the server measures, under the usual names of LLM servers with the prefix `artesian_`."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from artesian.engine.base import TierCounts
from artesian.metrics.workers import WorkerCollector, WorkerCounts

PREFIX = "artesian_"
VLLM_PREFIX = "vllm:"
LATENCY_BUCKETS_S = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    *(2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
TOKEN_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 5.0)

GAUGES = {
    "num_requests_running": "requests in the running batch",
    "num_requests_waiting": "requests waiting for a place in the batch",
    "kv_cache_usage_perc": "share of KV blocks in use, 0 to 1",
    "num_kv_blocks": "KV blocks in the arena",
    "offload_ratio": "part of the decoding requests whose KV is with a peer, 0 to 1",
    "worker_resident_memory_bytes": "resident memory of the worker",
}
COUNTERS = {
    "prefix_cache_queries": "prompt tokens looked up in the prefix cache",
    "prefix_cache_hits": "prompt tokens found in the prefix cache",
    "prompt_tokens": "prompt tokens taken in",
    "generation_tokens": "tokens generated",
    "num_preemptions": "requests paused for lack of KV blocks",
    "engine_steps": "steps of the engine",
    "context_early_starts": "requests that were computed while their KV blocks were loaded",
    "context_rewinds": "of these, those whose first step was undone, as blocks did not come",
    "context_overflows": "full context windows that went on without their oldest tokens",
    "context_turned_blocks": "KV blocks whose keys were turned to new positions for that",
    "context_recomputed": "truncated prompts that were computed anew, as no KV of them was kept",
    "spec_decode_num_drafts": "drafts that the full model looked at",
    "spec_decode_num_draft_tokens": "tokens of these drafts",
    "spec_decode_num_accepted_tokens": "of these, the ones that it would have chosen itself",
    "attention_sparse_tokens": "tokens that did not attend to everything before them",
    "attention_groups_read": "groups of 32 keys that these read, by layer and query head",
    "attention_groups_visible": "groups that attention to everything would have read for them",
    "attention_audits": "of these tokens, those whose kept attention weight was measured",
    "attention_kept_weight": "sum over these of the part of the attention weight that was kept",
    "attention_estimated_weight": "the same as it was estimated when reading stopped",
    "skipping_tokens": "tokens that were computed without some sublayers",
    "worker_restarts": "workers that had to be replaced",
}

TIER_GAUGES = {
    "context_cache_used_bytes": "bytes that a tier of the context cache takes, of all servers",
    "context_cache_capacity_bytes": "most bytes that it may take",
}
TIER_COUNTERS = {
    "context_cache_saved_blocks": "KV blocks saved in a tier",
    "context_cache_unsaved_blocks": "KV blocks not saved, as the tier refused or was full",
    "context_cache_loaded_blocks": "KV blocks loaded from a tier instead of computed",
    "context_cache_failed_loads": "KV blocks of a tier that could not be had",
    "context_cache_saved_bytes": "bytes saved in a tier",
    "context_cache_loaded_bytes": "bytes loaded from a tier",
    "context_cache_save_seconds": "time that threads took to save in a tier",
    "context_cache_load_seconds": "time from asking a tier for blocks to their arrival",
}
EVICTED = "context_cache_evicted_blocks"
EVICTED_TEXT = (
    "KV blocks taken out of a tier: capacity, ttl (not used for long), deleted (with a session), "
    "corrupt"
)

Counts = Callable[[], Mapping[str, float]]
Workers = Callable[[], Sequence[WorkerCounts]]
Tiers = Callable[[], Sequence[TierCounts]]


class ServingMetrics:
    """Counters and histograms of the front, and the worker's counts as last reported.

    Args:
        counts: the current values of `GAUGES` and `COUNTERS`.
        tiers: those of each tier of the context cache.
        workers: those of each worker.
        vllm_names: emit everything a second time under vLLM's names.
    """

    def __init__(
        self,
        counts: Counts,
        vllm_names: bool = False,
        tiers: Tiers = tuple,
        workers: Workers = tuple,
    ) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(EngineCollector(counts))
        self.registry.register(TierCollector(tiers))
        self.registry.register(WorkerCollector(PREFIX, workers))
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds", "arrival to first token", LATENCY_BUCKETS_S
        )
        self.inter_token_latency = self._histogram(
            "inter_token_latency_seconds", "between tokens of a completion", TOKEN_BUCKETS_S
        )
        self.e2e_request_latency = self._histogram(
            "e2e_request_latency_seconds", "arrival to last token", LATENCY_BUCKETS_S
        )
        self.request_queue_time = self._histogram(
            "request_queue_time_seconds", "waiting before the first step", LATENCY_BUCKETS_S
        )
        self.front_queue_time = self._histogram(
            "front_queue_time_seconds", "waiting in the front for a worker", LATENCY_BUCKETS_S
        )
        self.predicted_ttft = self._histogram(
            "predicted_time_to_first_token_seconds",
            "time to first token as predicted on arrival, with limits of time",
            LATENCY_BUCKETS_S,
        )
        self.admitted = self._counter("requests_admitted", "API calls that went to a worker")
        self.refused = self._counter(
            "requests_refused",
            "API calls refused with HTTP 429: queue_full, key_queue_full (no place left for this "
            "API key), ttft_slo (too late for --ttft-slo-ms)",
            "reason",
        )
        self.slo = self._counter(
            "slo_requests", "finished API calls that met or missed a limit of time", "slo", "result"
        )
        self.handovers = self._counter(
            "handovers",
            "prompts that one worker was to compute for another, by outcome: done, cancelled, "
            "revoked, refused, failed",
            "outcome",
        )
        self.handover_bytes = self._counter("handover_bytes", "KV that workers wrote for others")
        self.handover_time = self._histogram(
            "handover_seconds", "from asking for a prompt to its last byte", LATENCY_BUCKETS_S
        )
        self.requests = self._counter(
            "request_success",
            "API calls that ran in the engine, by how they ended",
            "finished_reason",
        )
        self.responses = self._counter(
            "http_responses", "HTTP responses by path and status", "path", "status"
        )
        self._vllm_registry = CollectorRegistry()
        if vllm_names:
            self._vllm_registry.register(VllmNames(self.registry))

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(PREFIX + name, text, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def exposition(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest(self.registry) + generate_latest(self._vllm_registry)


class Totals:
    """Sums of counters that begin at zero again with every new worker."""

    def __init__(self) -> None:
        self._totals: dict[Hashable, float] = {}
        self._last: dict[Hashable, float] = {}

    def add(self, key: Hashable, count: float) -> float:
        """The sum, now that the worker's counter is at `count`."""
        last = self._last.get(key, 0.0)
        self._totals[key] = self._totals.get(key, 0.0) + (count - last if count >= last else count)
        self._last[key] = count
        return self._totals[key]


class EngineCollector(Collector):
    """Turns the worker's counts into metrics."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._totals = Totals()

    def collect(self) -> Iterator[Metric]:
        """The current metrics."""
        counts = self._counts()
        for name, text in GAUGES.items():
            yield GaugeMetricFamily(PREFIX + name, text, counts[name])
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(PREFIX + name, text, self._totals.add(name, counts[name]))


class TierCollector(Collector):
    """Turns the counts of the context cache's tiers into metrics with the label `tier`."""

    def __init__(self, tiers: Tiers) -> None:
        self._tiers = tiers
        self._totals = Totals()

    def collect(self) -> Iterator[Metric]:
        """The current metrics."""
        tiers = self._tiers()
        for name, text in TIER_GAUGES.items():
            gauge = GaugeMetricFamily(PREFIX + name, text, labels=["tier"])
            for tier in tiers:
                gauge.add_metric([tier.tier], _count_of(tier, name))
            yield gauge
        for name, text in TIER_COUNTERS.items():
            counter = CounterMetricFamily(PREFIX + name, text, labels=["tier"])
            for tier in tiers:
                total = self._totals.add((name, tier.tier), _count_of(tier, name))
                counter.add_metric([tier.tier], total)
            yield counter
        evicted = CounterMetricFamily(PREFIX + EVICTED, EVICTED_TEXT, labels=["tier", "reason"])
        for tier in tiers:
            for reason, count in tier.evicted_blocks.items():
                total = self._totals.add((EVICTED, tier.tier, reason), count)
                evicted.add_metric([tier.tier, reason], total)
        yield evicted


def _count_of(tier: TierCounts, name: str) -> float:
    count: float = getattr(tier, name.removeprefix("context_cache_").replace("_seconds", "_s"))
    return count


class VllmNames(Collector):
    """The same metrics under vLLM's prefix, for existing dashboards and autoscalers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """All metrics of the registry, renamed."""
        for metric in self._registry.collect():
            renamed = Metric(_vllm(metric.name), metric.documentation, metric.type)
            for sample in metric.samples:
                renamed.samples.append(sample._replace(name=_vllm(sample.name)))
            yield renamed


def _vllm(name: str) -> str:
    return VLLM_PREFIX + name.removeprefix(PREFIX)
