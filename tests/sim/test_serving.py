"""The policies of the context cache on a whole server: what they are for, and what they may not
cost."""

from collections.abc import Callable

import pytest

from artesian.context.policies import (
    EvictionPolicy,
    LeafFirstLru,
    LookAheadPrefetch,
    QueueAware,
    RegretChooser,
)
from artesian.sim import (
    GIB,
    PAPER_MODELS,
    BlockLayout,
    Conversations,
    EventLoop,
    Outcome,
    Serving,
    Step,
    Tiers,
    TierState,
    furthest_next_use,
    make_sessions,
)

COST = PAPER_MODELS["LLaMA-13B"]
HOST, DISK = 64 * GIB, 64 * GIB


def chooser() -> EvictionPolicy:
    return RegretChooser([QueueAware(), LeafFirstLru()])


def serve(
    make: Callable[[], EvictionPolicy],
    sessions_per_s: float,
    gap_s: float,
    steps: list[Step] | None = None,
    seed: int = 0,
) -> Outcome:
    """300 conversations, in tiers with room for less than a third of them."""
    loop = EventLoop()
    sessions = make_sessions(300, sessions_per_s, gap_s, seed)
    workload = Conversations(sessions, BlockLayout(128), COST.window_tokens)
    prefetch = None if make is LeafFirstLru else LookAheadPrefetch(HOST, 0.1 * HOST)
    tiers = Tiers(loop, COST, TierState(make(), HOST), TierState(make(), DISK), prefetch)
    return Serving(loop, COST, tiers, workload, Outcome(), steps).run()


@pytest.mark.parametrize("seed", range(3))
def test_without_a_queue_nothing_is_lost_to_leaf_first_lru(seed: int) -> None:
    ours, lru = (serve(make, 0.15, 300.0, seed=seed) for make in (chooser, LeafFirstLru))
    assert lru.mean_queued < 0.1
    assert 0.3 < lru.token_hit_rate < 0.9
    assert ours.token_hit_rate >= lru.token_hit_rate - 0.01


def test_with_a_queue_it_is_far_ahead() -> None:
    steps: list[Step] = []
    queue = serve(QueueAware, 4.0, 5.0, steps)
    ours, lru = (serve(make, 4.0, 5.0) for make in (chooser, LeafFirstLru))
    assert lru.mean_queued > 50
    assert queue.token_hit_rate > lru.token_hit_rate + 0.2
    assert ours.token_hit_rate > queue.token_hit_rate - 0.03
    assert queue.makespan_s < lru.makespan_s
    best = furthest_next_use(steps, HOST + DISK, Outcome())
    assert lru.token_hit_rate < queue.token_hit_rate < best.token_hit_rate


def test_what_waits_is_in_host_memory_when_its_turn_comes() -> None:
    ahead, behind = serve(QueueAware, 4.0, 5.0), serve(LeafFirstLru, 4.0, 5.0)
    assert ahead.host_share > 0.95 > 0.8 > behind.host_share
    assert ahead.mean_first_token_s < 0.7 * behind.mean_first_token_s


def test_a_run_can_be_repeated() -> None:
    assert serve(chooser, 4.0, 5.0) == serve(chooser, 4.0, 5.0)
