"""The roofline of a step: what it says, and how it is fitted."""

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artesian.profile import StepCosts
from artesian.profile.costs import num_pairs
from artesian.profile.fit import Measured, errors, fit, predict

times = st.floats(1e-6, 1e-2)
costs_ = st.builds(
    StepCosts,
    fixed_s=times,
    row_s=times,
    prompt_row_s=times,
    kv_token_s=st.floats(1e-9, 1e-4),
    pair_s=st.floats(1e-9, 1e-5),
    knee_rows=st.floats(0, 100),
)


@given(costs=costs_, tpot_s=st.floats(1e-4, 1.0), context=st.integers(1, 5000))
def test_the_largest_batch_within_a_target(costs: StepCosts, tpot_s: float, context: int) -> None:
    def step_s(rows: float) -> float:
        return costs.decode_s(rows, rows * context)

    batch = costs.slo_batch(tpot_s, context)
    assert (batch == 0) == (step_s(0) >= tpot_s)
    assert not batch or step_s(batch * (1 - 1e-9)) <= tpot_s * (1 + 1e-9)
    assert step_s(batch * 1.001 + 1e-3) > tpot_s


@given(costs=costs_, tpot_s=st.floats(1e-4, 1.0), context=st.integers(1, 5000))
def test_without_attention_more_fit(costs: StepCosts, tpot_s: float, context: int) -> None:
    batch = costs.rest_batch(tpot_s)
    assert batch >= costs.slo_batch(tpot_s, context) * (1 - 1e-9)
    assert not batch or costs.rest_s(batch) == pytest.approx(tpot_s)


@given(first=st.integers(0, 50), num=st.integers(1, 50))
def test_pairs_are_counted_one_by_one(first: int, num: int) -> None:
    assert num_pairs(num, first) == sum(first + i + 1 for i in range(num))


def test_chunks_of_a_prompt_attend_as_much_as_the_whole() -> None:
    costs = StepCosts(fixed_s=0, row_s=1e-3, prompt_row_s=1e-4, kv_token_s=1e-6, pair_s=1e-6)
    whole_s = costs.prefill_s(1000)
    chunks_s = sum(costs.prefill_s(100, first) for first in range(0, 1000, 100))
    assert chunks_s == pytest.approx(whole_s)


def steps_of(costs: StepCosts, noise: float, seed: int) -> list[Measured]:
    """Steps of all kinds with times that `costs` says, give or take."""
    rng = random.Random(seed)
    shapes = [(b, b * c, 0, 0.0) for b in (1, 2, 4, 8, 16, 32) for c in (64, 512, 2048)]
    shapes += [(0, 0, n, num_pairs(n, f)) for n in (16, 64, 256, 1024) for f in (0, 1024)]
    shapes += [(b, b * 512, 128, num_pairs(128)) for b in (2, 8)]
    return [
        Measured(*shape, seconds=predict(costs, Measured(*shape, seconds=0)) * rng.gauss(1, noise))
        for shape in shapes
    ]


@pytest.mark.parametrize("knee", [0, 4, 16])
def test_the_fit_finds_what_the_times_were_made_of(knee: int) -> None:
    true = StepCosts(
        fixed_s=1e-3,
        row_s=2e-3,
        prompt_row_s=1e-3,
        kv_token_s=3e-6,
        pair_s=1e-6,
        knee_rows=knee,
    )
    found = fit(steps_of(true, 0.0, 0))
    assert max(errors(found, steps_of(true, 0.0, 0))) < 0.05
    assert found.kv_token_s == pytest.approx(true.kv_token_s, rel=0.05)
    assert found.row_s == pytest.approx(true.row_s, rel=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_noise_costs_no_more_than_there_is_of_it(seed: int) -> None:
    true = StepCosts(fixed_s=1e-2, row_s=3e-3, prompt_row_s=2e-3, kv_token_s=3e-6, pair_s=2e-6)
    found = fit(steps_of(true, 0.1, seed))
    wrong = errors(found, steps_of(true, 0.0, 1))
    assert sum(wrong) / len(wrong) < 0.1


@pytest.mark.parametrize("seed", range(5))
def test_no_term_is_below_0_whatever_was_measured(seed: int) -> None:
    rng = random.Random(seed)
    steps = [
        Measured(rng.randint(0, 9), rng.randint(0, 99), rng.randint(0, 9), 9.0, rng.random() + 0.1)
        for _ in range(12)
    ]
    with contextlib.suppress(ValueError):
        found = fit(steps)
        assert all(getattr(found, name) >= 0 for name in found.__struct_fields__)


def test_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="6 steps"):
        fit([Measured(1, 1, 0, 0, 1.0)] * 5)
    with pytest.raises(ValueError, match="tell rows and attention apart"):
        fit([Measured(1, 0, 0, 0, 1.0)] * 8)
