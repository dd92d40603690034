"""What is offloaded: the bound holds whatever comes, grows and ends."""

import math
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artesian.cluster.policies import (
    AttentionCapacity,
    Combinator,
    DecodeBatch,
    FixedOffload,
    LoadAwareOffload,
    OffloadedSequence,
    OffloadLimits,
    compute_bound,
    memory_bound,
    offload_bound,
)


def offloaded(*lengths: tuple[int, int]) -> list[OffloadedSequence]:
    """Sequences of (tokens now, tokens at most), named by their numbers."""
    return [
        OffloadedSequence(request_id=str(n), num_tokens=now, max_tokens=most)
        for n, (now, most) in enumerate(lengths)
    ]


def test_the_bounds() -> None:
    decode = AttentionCapacity(80e9, 2e12)
    executor = AttentionCapacity(48e9, 0.6 * 2e12)
    assert memory_bound([executor], decode) == pytest.approx(0.6)
    assert memory_bound([executor] * 2, decode) == pytest.approx(1.2)
    assert memory_bound([replace(executor, kv_bytes=8e9)], decode) == pytest.approx(0.1)
    assert memory_bound([], decode) == 0
    assert compute_bound(max_batch=136, slo_batch=80) == pytest.approx(0.7)
    assert compute_bound(max_batch=60, slo_batch=80) == 0
    assert offload_bound([executor], decode, 136, 80) == pytest.approx(0.6)
    assert offload_bound([executor] * 2, decode, 136, 80) == pytest.approx(0.7)
    with pytest.raises(ValueError, match="bandwidth"):
        memory_bound([executor], AttentionCapacity(80e9, 0))


@pytest.mark.parametrize(
    ("max_tokens", "num_local", "c1", "c2"),
    [(400, 10, True, True), (600, 10, False, True), (400, 1, True, False), (600, 1, False, False)],
)
def test_both_conditions_and_both_combinators(
    max_tokens: int, num_local: int, c1: bool, c2: bool
) -> None:
    batch = DecodeBatch(local_seqs=num_local, local_tokens=1000)
    limits = OffloadLimits(ratio=0.5)
    assert LoadAwareOffload("any").admits(100, max_tokens, batch, limits) == (c1 or c2)
    assert LoadAwareOffload("all").admits(100, max_tokens, batch, limits) == (c1 and c2)


def test_an_unknown_combinator_is_refused() -> None:
    with pytest.raises(ValueError, match="any or all"):
        LoadAwareOffload("some")  # type: ignore[arg-type]


def test_the_guard_refuses_what_would_not_hide() -> None:
    batch = DecodeBatch(local_seqs=10, local_tokens=1000)
    fast = OffloadLimits(
        ratio=1.0, kv_bytes=1e3, executor_bytes_per_s=1e9, decode_bytes_per_s=1e9, sync_s=1e-4
    )
    policy = LoadAwareOffload()
    assert policy.admits(900, 900, batch, fast)
    assert not policy.admits(901, 901, batch, fast), "0.1 ms of the 1 ms are for the way"
    assert not policy.admits(600, 600, batch, replace(fast, executor_bytes_per_s=0.5e9))
    assert not policy.admits(10, 10, batch, replace(fast, sync_s=1e-3))


def test_without_local_sequences_nothing_is_offloaded() -> None:
    assert not LoadAwareOffload().admits(1, 1, DecodeBatch(), OffloadLimits(ratio=9.0))


def test_as_few_bytes_as_possible_come_back() -> None:
    batch = DecodeBatch(
        local_seqs=5, local_tokens=1000, offloaded=offloaded((100, 100), (300, 300), (400, 400))
    )
    policy = LoadAwareOffload()
    assert policy.call_back(batch, OffloadLimits(ratio=0.8)) == []
    assert policy.call_back(batch, OffloadLimits(ratio=0.7)) == ["0"]
    assert policy.call_back(batch, OffloadLimits(ratio=0.5)) == ["1"]
    assert policy.call_back(batch, OffloadLimits(ratio=0.2)) == ["2", "0"]
    assert sorted(policy.call_back(batch, OffloadLimits(ratio=0.0))) == ["0", "1", "2"]


def test_a_slower_executor_gives_sequences_back() -> None:
    batch = DecodeBatch(local_seqs=5, local_tokens=1000, offloaded=offloaded(*[(100, 100)] * 5))
    limits = OffloadLimits(
        ratio=1.0, kv_bytes=1e3, executor_bytes_per_s=0.5e9, decode_bytes_per_s=1e9
    )
    assert LoadAwareOffload().call_back(batch, limits) == []
    slower = replace(limits, executor_bytes_per_s=0.25e9)
    assert len(LoadAwareOffload().call_back(batch, slower)) == 2


def test_a_fixed_ratio() -> None:
    limits = OffloadLimits(ratio=0.0)
    batch = DecodeBatch(local_seqs=10, offloaded=offloaded(*[(1, 1)] * 6))
    assert FixedOffload(0.7).admits(1, 1, batch, limits)
    assert not FixedOffload(0.6).admits(1, 1, batch, limits)
    assert not FixedOffload(0.0).admits(1, 1, DecodeBatch(), limits)
    assert FixedOffload(math.inf).admits(1, 1, DecodeBatch(), limits)
    assert FixedOffload(0.1).call_back(batch, limits) == []
    with pytest.raises(ValueError, match="ratio"):
        FixedOffload(-1.0)


@dataclass
class Running:
    """A batch that lives: what `DecodeBatch` is made of."""

    local: dict[int, tuple[int, int]] = field(default_factory=dict)
    remote: dict[int, tuple[int, int]] = field(default_factory=dict)

    def batch(self) -> DecodeBatch:
        return DecodeBatch(
            local_seqs=len(self.local),
            local_tokens=sum(now for now, _ in self.local.values()),
            offloaded=[
                OffloadedSequence(request_id=str(n), num_tokens=now, max_tokens=most)
                for n, (now, most) in self.remote.items()
            ],
        )

    def grow(self) -> None:
        """One step: those that are as long as they may be end."""
        for part in (self.local, self.remote):
            for number, (now, most) in list(part.items()):
                if now == most:
                    del part[number]
                else:
                    part[number] = now + 1, most


ARRIVALS = st.tuples(st.just("arrive"), st.integers(1, 200), st.integers(0, 200))
EVENTS = ARRIVALS | st.tuples(
    st.sampled_from(["end", "step", "share"]), st.integers(0, 100), st.integers(0, 100)
)


@given(
    events=st.lists(EVENTS, max_size=60),
    ratio=st.floats(0, 2),
    combinator=st.sampled_from(["any", "all"]),
    is_guarded=st.booleans(),
)
def test_the_bound_is_never_exceeded(
    events: list[tuple[str, int, int]], ratio: float, combinator: Combinator, is_guarded: bool
) -> None:
    policy = LoadAwareOffload(combinator)
    limits = OffloadLimits(ratio=ratio, executor_bytes_per_s=40, decode_bytes_per_s=80)
    limits = replace(limits, sync_s=0.01 if is_guarded else 0.0)
    if not is_guarded:
        limits = replace(limits, executor_bytes_per_s=0)
    running = Running()
    for number, (event, a, b) in enumerate(events):
        if event == "arrive":
            to_peer = policy.admits(a, a + b, running.batch(), limits)
            (running.remote if to_peer else running.local)[number] = a, a + b
            check(running.batch(), limits, combinator)
        elif event == "end" and running.local:
            del running.local[list(running.local)[a % len(running.local)]]
        elif event == "step":
            running.grow()
        elif event == "share":
            limits = replace(limits, ratio=ratio * a / 100)
        for name in policy.call_back(running.batch(), limits):
            running.local[int(name)] = running.remote.pop(int(name))
        check(running.batch(), limits, combinator)


def check(batch: DecodeBatch, limits: OffloadLimits, combinator: Combinator) -> None:
    """Written once more, as the paper says it."""
    assert batch.offloaded_tokens <= limits.ratio * batch.local_tokens + 1e-9
    if combinator == "all":
        assert len(batch.offloaded) <= limits.ratio * batch.local_seqs
    if limits.executor_bytes_per_s and batch.offloaded:
        remote_s = limits.sync_s + batch.offloaded_tokens / limits.executor_bytes_per_s
        assert remote_s <= batch.local_tokens / limits.decode_bytes_per_s + 1e-9


@given(
    lengths=st.lists(st.integers(1, 300), max_size=12),
    local_tokens=st.integers(0, 2000),
    ratio=st.floats(0, 2),
)
def test_nothing_comes_back_without_need(
    lengths: list[int], local_tokens: int, ratio: float
) -> None:
    batch = DecodeBatch(
        local_seqs=5,
        local_tokens=local_tokens,
        offloaded=offloaded(*((length, length) for length in lengths)),
    )
    limits = OffloadLimits(ratio=ratio)
    called = LoadAwareOffload().call_back(batch, limits)
    assert len(called) == len(set(called))
    moved = sum(lengths[int(name)] for name in called[:-1])
    if called:
        assert batch.offloaded_tokens - moved > ratio * (local_tokens + moved) - 1e-6
