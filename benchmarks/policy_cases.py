"""One simulated server: what is served, by which policy of the context cache, and where."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from artesian.context.policies import (
    EvictionPolicy,
    Fifo,
    LeafFirstLru,
    LookAheadPrefetch,
    Lru,
    QueueAware,
    RegretChooser,
)
from artesian.sim import (
    GIB,
    PAPER_MODELS,
    BlockLayout,
    Conversations,
    CostModel,
    EventLoop,
    Outcome,
    Recorded,
    Serving,
    SessionLayout,
    Step,
    Tiers,
    TierState,
    agents,
    furthest_next_use,
    make_sessions,
    mooncake,
)
from artesian.sim.conversations import Session
from artesian.sim.requests import Workload

BELADY = "Belady"
FIFO, LRU, LEAF_FIRST = "FIFO", "LRU", "leaf-first LRU"
WINDOW, QUEUE_AWARE, CHOOSER = "paper's window", "queue-aware", "chooser"
POLICIES: dict[str, Callable[[float], EvictionPolicy]] = {
    FIFO: lambda _: Fifo(),
    LRU: lambda _: Lru(),
    LEAF_FIRST: lambda _: LeafFirstLru(),
    WINDOW: QueueAware,
    QUEUE_AWARE: lambda _: QueueAware(),
    CHOOSER: lambda _: RegretChooser([QueueAware(), LeafFirstLru()]),
}
"""Each made for the bytes of both tiers."""
LOOK_AHEAD = {WINDOW, QUEUE_AWARE, CHOOSER}
"""These fetch ahead as well, as in the paper; with the others a request reads its own history."""
BUFFER_SHARE = 0.1
"""Of host memory, for what is on its way from disk."""
FILLED = 0.925
"""Part of a tier that is in use on average: Belady gets no more."""
PAPER_SESSIONS, PAPER_WARM_UP = 9000, 10_000
TRACE_KV_BYTES = PAPER_MODELS["LLaMA-70B"].kv_bytes
HOST_SHARE = 0.2
"""Of the cache, with traces."""
AGENT_STARTS = 0.05
"""Agents' sessions begin within so much of the recorded time: so many at once make a queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A run, or a replay of one with the future known.

    Attributes:
        model: of the paper, or the name of a trace in `data`.
        host_gib, disk_gib: capacities; with traces `cache_share` of all their blocks instead.
        block_tokens: 0 for whole sessions.
        load: with traces: how long all prompts take to compute, by the time of the trace.
    """

    model: str
    policy: str
    host_gib: float = 128
    disk_gib: float = 2048
    block_tokens: int = 0
    num_sessions: int = PAPER_SESSIONS
    sessions_per_s: float = 1.0
    gap_s: float = 60.0
    window_tokens: int | None = None
    disk_bytes_per_s: float = 5e9
    data: Path | None = None
    cache_share: float = 0.0
    load: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """Per cent, requests and hours, as `Outcome` has them."""

    all_turns: float
    later_turns: float
    ceiling: float
    tokens: float
    host_share: float
    queued: float
    most_queued: int
    hours: float
    disk_busy: float
    first_token_s: float


def run(case: Case) -> Result:
    """Simulates one case."""
    cost, workload, num_warm_up = _prepare(case)
    host_bytes, disk_bytes = case.host_gib * GIB, case.disk_gib * GIB
    if case.data is not None:
        blocks = _trace(case.model, case.data)
        cache_bytes = case.cache_share * blocks.num_blocks * blocks.block_tokens * cost.kv_bytes
        host_bytes, disk_bytes = HOST_SHARE * cache_bytes, (1 - HOST_SHARE) * cache_bytes
    policy = QUEUE_AWARE if case.policy == BELADY else case.policy
    make = POLICIES[policy]
    both = host_bytes + disk_bytes
    buffer_bytes = BUFFER_SHARE * host_bytes
    loop = EventLoop()
    tiers = Tiers(
        loop,
        cost,
        TierState(make(both), host_bytes),
        TierState(make(both), disk_bytes),
        LookAheadPrefetch(host_bytes, buffer_bytes) if policy in LOOK_AHEAD else None,
    )
    steps: list[Step] | None = [] if case.policy == BELADY else None
    outcome = Serving(loop, cost, tiers, workload, Outcome(num_warm_up), steps).run()
    if steps is not None:
        outcome = furthest_next_use(steps, FILLED * both, Outcome(num_warm_up))
    return _result(outcome)


def demand_bytes(case: Case) -> float:
    """What all conversations would have in the end if nothing were thrown out."""
    cost, workload, _ = _prepare(case)
    num_tokens = 0
    for _, first in workload.arrivals():
        request = first
        while (following := workload.following(request)) is not None:
            request = following[1]
        num_tokens += len(request.kept) * request.kept_tokens
    return num_tokens * cost.kv_bytes


def _prepare(case: Case) -> tuple[CostModel, Workload, int]:
    if case.data is not None:
        trace = _trace(case.model, case.data)
        span_s = trace.last_arrival_s
        cost = CostModel(
            kv_bytes=TRACE_KV_BYTES,
            prefill_s=case.load * span_s / trace.num_prompt_tokens,
            decode_s=0.01,
            num_slots=64 if case.model == "Mooncake" else 4,
        )
        return cost, trace, 0
    cost = PAPER_MODELS[case.model]
    window_tokens = case.window_tokens or cost.window_tokens
    speed = case.disk_bytes_per_s
    cost = dataclasses.replace(cost, read_bytes_per_s=speed, write_bytes_per_s=speed)
    layout = BlockLayout(case.block_tokens) if case.block_tokens else SessionLayout()
    sessions = _sessions(case.num_sessions, case.sessions_per_s, case.gap_s)
    num_warm_up = PAPER_WARM_UP * case.num_sessions // PAPER_SESSIONS
    return cost, Conversations(sessions, layout, window_tokens), num_warm_up


def _result(outcome: Outcome) -> Result:
    hours = outcome.makespan_s / 3600
    return Result(
        all_turns=100 * outcome.hit_rate,
        later_turns=100 * outcome.later_hit_rate,
        ceiling=100 * outcome.ceiling,
        tokens=100 * outcome.token_hit_rate,
        host_share=100 * outcome.host_share,
        queued=outcome.mean_queued,
        most_queued=outcome.most_queued,
        hours=hours,
        disk_busy=100 * outcome.read_s / outcome.makespan_s if hours else math.nan,
        first_token_s=outcome.mean_first_token_s,
    )


@cache
def _sessions(num_sessions: int, sessions_per_s: float, gap_s: float) -> list[Session]:
    return make_sessions(num_sessions, sessions_per_s, gap_s)


@cache
def _trace(name: str, data: Path) -> Recorded:
    if name == "Mooncake":
        return mooncake(next(data.glob("mooncake_conversation*")))
    return agents(sorted(data.glob("agent_*")), AGENT_STARTS)
