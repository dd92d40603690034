"""The plan keeps to the limit, or says why it cannot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artesian.kvcache.memory_plan import MemoryPlan, MemoryPlanError, plan_memory
from artesian.machine import MemoryLimit

GIB = 1 << 30
MIB = 1 << 20


def plan(
    total: int = 16 * GIB,
    available: int | None = None,
    weights: int = 100 * MIB,
    block: int = 720 * 1024,
    model_max_len: int = 8192,
    seqs: int = 16,
    **asked: int,
) -> MemoryPlan:
    limit = MemoryLimit(total, total if available is None else available, "machine")
    return plan_memory(limit, weights, block, 32, model_max_len, seqs, **asked)


def test_no_more_than_the_sequences_can_use() -> None:
    small = plan(seqs=1, model_max_len=1000)
    assert small.num_blocks == 32
    assert small.max_model_len == 1000


def test_by_default_an_eighth_of_the_limit() -> None:
    result = plan(seqs=64)
    assert 15 * GIB / 8 < result.kv_bytes <= 16 * GIB / 8
    assert result.max_model_len == 8192
    assert "KV cache up to 2,048 MiB" in str(result)


def test_the_length_shrinks_unless_it_was_asked_for() -> None:
    tight = plan(total=1 * GIB, weights=600 * MIB)
    assert tight.max_model_len == tight.num_blocks * 32 < 8192
    with pytest.raises(MemoryPlanError, match="one sequence of 8192 tokens needs 180"):
        plan(total=1 * GIB, weights=600 * MIB, max_model_len=8192)


def test_a_length_asked_for_may_exceed_the_default_share() -> None:
    assert plan(total=1 * GIB, max_model_len=8192).num_blocks == 256


def test_what_cannot_be_is_refused_with_the_numbers() -> None:
    with pytest.raises(MemoryPlanError, match=r"max_model_len is 9000.*8192"):
        plan(max_model_len=9000)
    with pytest.raises(MemoryPlanError, match=r"20,480 MiB.*room for"):
        plan(kv_cache_memory_bytes=20 * GIB)
    with pytest.raises(MemoryPlanError, match="raise kv_cache_memory_bytes or the memory limit"):
        plan(total=1 * GIB, weights=2 * GIB)


@given(
    total=st.integers(1 * MIB, 64 * GIB),
    free_share=st.floats(0, 1),
    weights=st.integers(0, 8 * GIB),
    block=st.integers(64, 16 * MIB),
    model_max_len=st.integers(1, 200_000),
    seqs=st.integers(1, 256),
)
def test_every_plan_fits_and_runs_one_longest_sequence(
    total: int, free_share: float, weights: int, block: int, model_max_len: int, seqs: int
) -> None:
    available = int(total * free_share)
    try:
        result = plan(total, available, weights, block, model_max_len, seqs)
    except MemoryPlanError:
        return
    assert weights + result.kv_bytes <= available
    assert result.max_model_len <= model_max_len
    assert result.num_blocks * 32 >= result.max_model_len
