"""The virtual clock, the links, and a server small enough to be worked out by hand."""

import pytest

from artesian.context.policies import LeafFirstLru, Lru, QueueAware
from artesian.sim import (
    BlockLayout,
    Conversations,
    CostModel,
    EventLoop,
    Outcome,
    Serving,
    SessionLayout,
    Step,
    Tiers,
    TierState,
    furthest_next_use,
)
from artesian.sim.conversations import Session, Turn
from artesian.sim.events import Link
from artesian.sim.layout import Context
from artesian.sim.requests import Request
from artesian.sim.tiers import Found

COST = CostModel(
    kv_bytes=1.0,
    prefill_s=0.01,
    decode_s=0.1,
    window_tokens=100,
    num_slots=1,
    device_bytes_per_s=1e6,
    read_bytes_per_s=10.0,
    write_bytes_per_s=10.0,
)


def test_things_happen_in_order() -> None:
    loop = EventLoop()
    seen: list[tuple[float, str]] = []
    loop.at(2, lambda: seen.append((loop.now, "later")))
    loop.at(1, lambda: seen.append((loop.now, "first")))
    loop.at(1, lambda: loop.after(0.5, lambda: seen.append((loop.now, "after"))))
    loop.at(1, lambda: loop.at(0, lambda: seen.append((loop.now, "too late"))))
    loop.run()
    assert seen == [(1, "first"), (1, "too late"), (1.5, "after"), (2, "later")]


def test_transfers_follow_each_other() -> None:
    loop = EventLoop()
    link = Link(loop, 10)
    assert [link.move(20), link.move(10)] == [2, 3]
    loop.now = 10
    assert link.move(5) == 10.5
    assert (link.num_bytes, link.busy_s) == (35, 3.5)


def serve(sessions: list[Session], host: float, disk: float, cost: CostModel = COST) -> Outcome:
    loop = EventLoop()
    tiers = Tiers(loop, cost, TierState(Lru(), host), TierState(Lru(), disk))
    workload = Conversations(sessions, SessionLayout(), cost.window_tokens)
    return Serving(loop, cost, tiers, workload, Outcome()).run()


def test_a_conversation_by_hand() -> None:
    """Two turns of 10 + 20 tokens: 0.1 s and 2 s, a gap of 5 s, and the same again, as the history
    is in host memory; without room it is computed as well, 0.3 s more."""
    turns = (Turn(10, 20, 5.0), Turn(10, 20, 5.0))
    kept = serve([Session(1.0, turns)], host=1000, disk=1000)
    assert kept.makespan_s == pytest.approx(1 + 2.1 + 5 + 2.1, abs=1e-3)
    assert (kept.num_turns, kept.num_later, kept.hits, kept.host_hits) == (2, 1, 1.0, 1.0)
    assert (kept.hit_rate, kept.later_hit_rate, kept.host_share) == (0.5, 1.0, 1.0)
    lost = serve([Session(1.0, turns)], host=10, disk=10)
    assert lost.makespan_s == pytest.approx(kept.makespan_s + 0.3, abs=1e-3)
    assert lost.hits == 0
    disk = serve([Session(1.0, turns)], host=10, disk=1000)
    assert disk.makespan_s == pytest.approx(kept.makespan_s + 3.0, abs=1e-3)
    assert (disk.hits, disk.host_hits) == (1, 0)
    assert (disk.read_s, disk.write_s) == (3.0, 6.0)


def test_requests_wait_for_a_slot() -> None:
    sessions = [Session(0.1 * i, (Turn(10, 20, 0.0),)) for i in range(4)]
    outcome = serve(sessions, 1000, 1000)
    assert outcome.makespan_s == pytest.approx(4 * 2.1)
    assert (outcome.most_queued, outcome.queued) == (2, 3)


def test_prefills_hold_up_decoding() -> None:
    cost = CostModel(kv_bytes=1, prefill_s=0.01, decode_s=0.1, window_tokens=100, num_slots=2)
    sessions = [Session(0.0, (Turn(10, 20, 0.0),)), Session(0.5, (Turn(20, 1, 0.0),))]
    assert serve(sessions, 1000, 1000, cost).makespan_s == pytest.approx(2.1 + 0.2)


@pytest.mark.parametrize(("layout", "fourth"), [(SessionLayout(), 55), (BlockLayout(4), 52)])
def test_what_outgrows_the_window_loses_its_older_half(
    layout: SessionLayout | BlockLayout, fourth: int
) -> None:
    turns = tuple(Turn(10, 20, 0.0) for _ in range(6))
    workload = Conversations([Session(0, turns)], layout, 100)
    ((_, request),) = workload.arrivals()
    prompts = [request.num_prompt_tokens]
    while (following := workload.following(request)) is not None:
        _, request = following
        assert request.num_prompt_tokens + request.num_output_tokens <= 100
        assert len(request.names) * request.block_tokens <= request.num_prompt_tokens
        prompts.append(request.num_prompt_tokens)
    assert prompts[:4] == [10, 40, 70, fourth]
    assert len(prompts) == 6


def test_blocks_of_what_stays_keep_their_names() -> None:
    layout, context = BlockLayout(4), Context(7)
    layout.grow(context, 18)
    assert context.names == [b"7:0", b"7:1", b"7:2", b"7:3"]
    layout.cut(context, 9)
    assert (context.names, context.num_tokens) == ([b"7:3"], 6)
    layout.grow(context, 3)
    assert context.names == [b"7:3", b"7:4"]
    layout.cut(context, 100)
    assert (context.names, context.num_tokens) == ([], 0)


def test_tiers_agree_with_themselves() -> None:
    """Whatever is demoted, fetched and dropped: sizes add up, and policies know what is there."""
    loop = EventLoop()
    host, disk = TierState(QueueAware(), 200), TierState(LeafFirstLru(), 600)
    tiers = Tiers(loop, COST, host, disk)
    for number in range(60):
        names = [b"%d %d" % (number * 7 % 13, i) for i in range(5)]
        tiers.enqueue((number,), names)
        tiers.dequeue((number,))
        tiers.use(names)
        if tiers.find(names).num_disk:
            tiers.fetch(names, lambda: None)
        tiers.save(names, 10)
        loop.run()
        for tier in (host, disk):
            assert tier.used_bytes == sum(tier.sizes.values()) <= tier.capacity_bytes
            assert len(tier.policy) == len(tier.sizes)
            assert all(name in tier.policy for name in tier.sizes)
    assert host.num_evicted and disk.num_evicted
    assert tiers.find([b"nothing"]) == Found(0, 0)


def request(names: list[bytes]) -> Request:
    return Request(
        names=names,
        block_tokens=1,
        num_prompt_tokens=len(names),
        num_output_tokens=1,
        kept=names,
        kept_tokens=1,
        turn=1,
    )


def test_knowing_the_future_beats_lru_on_a_loop() -> None:
    steps = []
    for turn in range(100):
        one = request([b"%d" % (turn % 5)])
        steps += [Step(one, False, one.names, 0), Step(one, True, one.names, 10)]
    best = furthest_next_use(steps, 40, Outcome())
    assert best.hits == 76  # four are kept, the fifth never
    assert furthest_next_use(steps, 50, Outcome()).hits == 95
    assert furthest_next_use(steps, 0, Outcome()).hits == 0
