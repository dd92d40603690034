"""The counts of several workers as one."""

from collections.abc import Iterable

import msgspec

from artesian.engine.base import EngineStats, TierCounts

_OF_ALL_SERVERS = {"used_bytes", "capacity_bytes"}
_NOW = {
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_usage_ratio",
    "num_kv_blocks",
    "resident_memory_bytes",
}
"""What is now, and not counted since the start."""


def total(stats: Iterable[EngineStats]) -> EngineStats:
    """Sums; the part of the KV blocks that is used, of all of them."""
    everything = list(stats)
    fields = {
        name: sum(getattr(each, name) for each in everything)
        for name in EngineStats.__struct_fields__
        if name not in ("context_tiers", "kv_cache_usage_ratio")
    }
    used = sum(each.kv_cache_usage_ratio * each.num_kv_blocks for each in everything)
    return EngineStats(
        **fields,
        kv_cache_usage_ratio=used / fields["num_kv_blocks"] if fields["num_kv_blocks"] else 0.0,
        context_tiers=_total_tiers([tier for each in everything for tier in each.context_tiers]),
    )


def counted(stats: EngineStats) -> EngineStats:
    """What stays counted of a worker that is gone."""
    tiers = [
        msgspec.structs.replace(t, used_bytes=0, capacity_bytes=0) for t in stats.context_tiers
    ]
    gone: dict[str, int] = dict.fromkeys(_NOW, 0)
    return msgspec.structs.replace(stats, context_tiers=tiers, **gone)


def _total_tiers(tiers: list[TierCounts]) -> list[TierCounts]:
    """By name, in order of appearance. A tier of all servers has its size once."""
    names = list(dict.fromkeys(tier.tier for tier in tiers))
    return [_total_tier(name, [tier for tier in tiers if tier.tier == name]) for name in names]


def _total_tier(name: str, tiers: list[TierCounts]) -> TierCounts:
    fields: dict[str, object] = {}
    for field in TierCounts.__struct_fields__:
        values = [getattr(tier, field) for tier in tiers]
        if field == "evicted_blocks":
            reasons = {reason for value in values for reason in value}
            fields[field] = {r: sum(value.get(r, 0) for value in values) for r in sorted(reasons)}
        elif field in _OF_ALL_SERVERS:
            fields[field] = max(values)
        elif field != "tier":
            fields[field] = sum(values)
    return msgspec.convert({"tier": name, **fields}, TierCounts)
