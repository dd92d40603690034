"""Counts of the context cache's tiers as metrics."""

from artesian.engine.base import TierCounts
from artesian.metrics.serving import COUNTERS, GAUGES, ServingMetrics


def test_every_tier_has_its_counts_and_they_go_on_with_a_new_worker() -> None:
    tiers: list[TierCounts] = []
    metrics = ServingMetrics(lambda: dict.fromkeys([*GAUGES, *COUNTERS], 0.0), tiers=lambda: tiers)
    assert "tier=" not in metrics.exposition().decode()

    def value(name: str) -> float:
        lines = metrics.exposition().decode().splitlines()
        (line,) = [line for line in lines if line.startswith(f"artesian_context_cache_{name} ")]
        return float(line.split()[-1])

    host = TierCounts(
        tier="host", loaded_blocks=5, load_s=0.5, used_bytes=70, evicted_blocks={"capacity": 2}
    )
    tiers[:] = [host, TierCounts(tier="disk", saved_blocks=3)]
    assert value('loaded_blocks_total{tier="host"}') == 5
    assert value('load_seconds_total{tier="host"}') == 0.5
    assert value('used_bytes{tier="host"}') == 70
    assert value('evicted_blocks_total{reason="capacity",tier="host"}') == 2
    assert value('saved_blocks_total{tier="disk"}') == 3
    tiers[:] = [TierCounts(tier="host", loaded_blocks=1, evicted_blocks={"corrupt": 1})]
    assert value('loaded_blocks_total{tier="host"}') == 6
    assert value('evicted_blocks_total{reason="corrupt",tier="host"}') == 1
    assert value('used_bytes{tier="host"}') == 0
