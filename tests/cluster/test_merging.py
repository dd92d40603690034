"""What several workers say, as one."""

import random

import msgspec

from artesian.cluster.replies import merge
from artesian.cluster.totals import counted, total
from artesian.engine.base import EngineStats, TierCounts
from artesian.engine.questions import (
    Deleted,
    DeleteSession,
    ExplainPrompt,
    Explanation,
    ListSessions,
    Resumed,
    ResumeSession,
    SessionInfo,
    Sessions,
    ShowSession,
)


def session(name: str, used_s: float, **fields: object) -> SessionInfo:
    known: dict[str, object] = {
        "num_tokens": 10,
        "num_blocks": 4,
        "num_in_memory": 1,
        "num_in_tier": {},
        "num_pinned_in_tier": {},
        "pinned_until_s": 0.0,
        "created_s": used_s,
    }
    return msgspec.convert({**known, **fields, "session_id": name, "used_s": used_s}, SessionInfo)


def test_a_session_of_several_workers_is_listed_once() -> None:
    one = Sessions([session("a", 1, num_tokens=50, num_in_tier={"host": 3}), session("b", 5)])
    other = Sessions([session("a", 7, num_in_memory=4, num_in_tier={"disk": 2})])
    merged = merge(ListSessions("", 10), [one, other])
    assert isinstance(merged, Sessions)
    assert [info.session_id for info in merged.sessions] == ["a", "b"]
    first = merged.sessions[0]
    assert (first.num_tokens, first.num_in_memory, first.created_s) == (50, 4, 1)
    assert first.num_in_tier == {"host": 3, "disk": 2}
    assert merge(ListSessions("", 1), [one, other]) == Sessions([first])


def test_a_session_that_only_one_knows_is_shown() -> None:
    shown = merge(ShowSession("", "a"), [Sessions([]), Sessions([session("a", 1)]), Sessions([])])
    assert shown == Sessions([session("a", 1)])


def test_gone_is_what_is_gone_everywhere() -> None:
    question = DeleteSession("", "a")
    unknown = Deleted(is_known=False, is_gone=True)
    going, gone = Deleted(is_known=True, num_blocks=3), Deleted(is_known=True, is_gone=True)
    assert merge(question, [unknown, unknown]) == unknown
    assert merge(question, [unknown, gone]) == Deleted(is_known=True, is_gone=True)
    assert merge(question, [going, gone]) == Deleted(is_known=True, num_blocks=3)


def test_other_questions() -> None:
    resumed = [Resumed(is_known=False), Resumed(is_known=True, num_in_memory=2, num_coming=3)]
    assert merge(ResumeSession("", "a"), resumed) == resumed[1]

    def explanation(num_in_memory: int, num_loadable: int) -> Explanation:
        loadable = {"host": num_loadable}
        return Explanation(100, 32, 3, num_in_memory, loadable, None, "none", "")

    replies = [explanation(1, 0), explanation(0, 3), explanation(2, 1)]
    assert merge(ExplainPrompt("", [1]), replies) == replies[2]


def random_stats(rng: random.Random) -> EngineStats:
    tiers = [
        TierCounts(
            tier=name,
            saved_blocks=rng.randrange(9),
            evicted_blocks={"ttl": rng.randrange(9)},
            used_bytes=rng.randrange(9),
            capacity_bytes=9,
        )
        for name in rng.sample(["host", "disk"], rng.randrange(3))
    ]
    return EngineStats(
        num_requests_running=rng.randrange(9),
        prompt_tokens=rng.randrange(99),
        generation_tokens=rng.randrange(99),
        num_kv_blocks=rng.randrange(1, 99),
        kv_cache_usage_ratio=rng.random(),
        context_tiers=tiers,
    )


def test_totals_are_sums() -> None:
    rng = random.Random(1)
    for _ in range(50):
        stats = [random_stats(rng) for _ in range(rng.randrange(1, 5))]
        whole = total(stats)
        assert whole.generation_tokens == sum(each.generation_tokens for each in stats)
        used = sum(each.kv_cache_usage_ratio * each.num_kv_blocks for each in stats)
        assert abs(whole.kv_cache_usage_ratio * whole.num_kv_blocks - used) < 1e-9
        for tier in whole.context_tiers:
            same = [t for each in stats for t in each.context_tiers if t.tier == tier.tier]
            assert tier.saved_blocks == sum(t.saved_blocks for t in same)
            assert tier.evicted_blocks == {"ttl": sum(t.evicted_blocks["ttl"] for t in same)}
            assert (tier.used_bytes, tier.capacity_bytes) == (max(t.used_bytes for t in same), 9)


def test_counters_do_not_fall_when_a_worker_is_gone() -> None:
    rng = random.Random(2)
    one, other = random_stats(rng), random_stats(rng)
    before, after = total([one, other]), total([counted(one), other])
    assert after.prompt_tokens == before.prompt_tokens
    assert after.num_requests_running == other.num_requests_running
    assert after.num_kv_blocks == other.num_kv_blocks
    assert total([]).generation_tokens == 0
