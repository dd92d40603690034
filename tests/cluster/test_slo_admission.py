"""Costs of steps learnt from counts, predictions from them, and when clients should return."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artesian.cluster.policies.retry_after import DrainRate, retry_after_s
from artesian.cluster.policies.slo_admission import Capacity, Load, Slo, SloAdmission
from artesian.cluster.policies.step_cost import StepCost, StepCostFit
from artesian.cluster.workers import Workers
from artesian.engine.base import EngineStats
from artesian.worker.client import ClusterStatus, MemberStatus

COST = StepCost(step_s=0.004, prefill_s=0.0002, decode_s=0.0006)
ONE = Capacity(num_workers=1, max_num_seqs=16, max_num_batched_tokens=512)


def fitted(cost: StepCost, windows: int = 60, noise: float = 0.0, seed: int = 0) -> StepCost:
    draw, fit = random.Random(seed), StepCostFit()
    for _ in range(windows):
        steps, prefill, decode = draw.randint(1, 20), draw.randint(0, 3000), draw.randint(0, 300)
        seconds = steps * cost.step_s + prefill * cost.prefill_s + decode * cost.decode_s
        fit.observe(steps, prefill, decode, seconds * draw.uniform(1 - noise, 1 + noise))
    found = fit.cost()
    assert found is not None
    return found


def test_costs_are_found_again() -> None:
    found = fitted(COST)
    assert found.step_s == pytest.approx(COST.step_s, rel=0.01)
    assert found.prefill_s == pytest.approx(COST.prefill_s, rel=0.01)
    assert found.decode_s == pytest.approx(COST.decode_s, rel=0.01)
    noisy = fitted(COST, noise=0.2)
    assert noisy.tpot_s(10) == pytest.approx(COST.tpot_s(10), rel=0.2)


@pytest.mark.parametrize(
    "cost", [StepCost(0.01, 0.0, 0.0), StepCost(0.0, 0.001, 0.0), StepCost(0.0, 0.0, 0.002)]
)
def test_costs_are_never_below_zero(cost: StepCost) -> None:
    found = fitted(cost, noise=0.05)
    assert min(found.step_s, found.prefill_s, found.decode_s) >= 0
    assert found.tpot_s(8, 100) == pytest.approx(cost.tpot_s(8, 100), rel=0.2)


def test_windows_that_are_all_alike_give_a_prediction_for_their_like() -> None:
    fit = StepCostFit()
    for _ in range(20):
        fit.observe(10, 0, 40, 0.2)
    found = fit.cost()
    assert found is not None and 10 * found.step_s + 40 * found.decode_s == pytest.approx(0.2)


def test_nonsense_is_not_learnt() -> None:
    fit = StepCostFit()
    for window in ((0, 1, 1, 1.0), (1, -1, 1, 1.0), (1, 1, -1, 1.0), (1, 1, 1, 0.0)):
        fit.observe(*window)
    assert fit.cost() is None


def test_workers_counts_become_costs_and_capacity() -> None:
    status = ClusterStatus(members=[])
    workers = Workers(lambda: status, 16, 512)
    workers.look()
    assert workers.capacity == Capacity(1, 16, 512) and workers.cost is None
    steps = prefilled = decoded = 0
    seconds = 0.0
    for number in range(40):
        prefill, decode, added = 100 * (number % 7), 5 * (number % 5), 5 + number % 3
        steps, prefilled, decoded = steps + added, prefilled + prefill, decoded + decode
        seconds += added * 0.01 + prefill * 0.001
        stats = EngineStats(
            num_steps=steps,
            generation_tokens=decoded,
            computed_tokens=prefilled + decoded,
            busy_s=seconds,
        )
        member = MemberStatus(worker_id="w", generation=1, role="both", state="ready", stats=stats)
        status = ClusterStatus(members=[member])
        workers.look()
    cost = workers.cost
    assert cost is not None and cost.prefill_s == pytest.approx(0.001, rel=0.01)
    successor = MemberStatus(
        worker_id="w",
        generation=2,
        role="decode",
        state="ready",
        stats=EngineStats(num_steps=1, busy_s=100.0),
    )
    other = MemberStatus(worker_id="x", generation=1, role="both", state="ready")
    prefill_only = MemberStatus(worker_id="p", generation=1, role="prefill", state="ready")
    status = ClusterStatus(members=[successor, other, prefill_only])
    workers.look()
    assert workers.cost == cost, "counts of another process are not compared"
    assert workers.capacity == Capacity(2, 16, 512, num_prefilling=1)


def test_the_tpot_limit_bounds_what_runs_at_once() -> None:
    assert SloAdmission(Slo()).max_running(ONE, COST) == 16
    assert SloAdmission(Slo(tpot_s=0.01)).max_running(ONE, COST) == 10
    assert SloAdmission(Slo(tpot_s=0.01)).max_running(ONE, None) == 16
    assert SloAdmission(Slo(tpot_s=0.001)).max_running(ONE, COST) == 1
    two = Capacity(2, 16, 512)
    assert SloAdmission(Slo(tpot_s=0.01)).max_running(two, COST) == 20


def test_predictions_grow_with_what_is_before() -> None:
    policy = SloAdmission(Slo(ttft_s=1.0))
    empty = policy.predict_ttft_s(Load(ONE), 500, 1, COST)
    assert empty == pytest.approx(500 * 0.0002 + 0.004, rel=0.05)
    assert policy.predict_ttft_s(Load(ONE), 500, 1, None) == 0
    prefills = policy.predict_ttft_s(Load(ONE, num_running=2, prefill_tokens=5000), 500, 1, COST)
    assert prefills > empty + 5000 * 0.0002
    full = Load(ONE, num_running=16, num_ahead=8, output_tokens=100)
    waiting = policy.predict_ttft_s(full, 500, 1, COST)
    # 9 have to end before it, 16 run and take 100 steps each.
    assert waiting == pytest.approx(9 / 16 * 100 * COST.tpot_s(16) + empty, rel=0.3)
    two = Load(Capacity(2, 16, 512), num_running=16, num_ahead=8, output_tokens=100)
    assert policy.predict_ttft_s(two, 500, 1, COST) < waiting


def test_what_is_never_in_time_may_run_but_not_wait() -> None:
    policy = SloAdmission(Slo(ttft_s=1.0))
    assert policy.excess_s(0.9, 0.1) == 0
    assert policy.excess_s(1.5, 0.1) == pytest.approx(0.5)
    assert policy.excess_s(5.5, 5.0) == 0
    assert policy.excess_s(7.0, 5.0) == pytest.approx(1.0)
    assert SloAdmission(Slo(tpot_s=1.0)).excess_s(100.0, 1.0) == 0


def test_predictions_that_are_off_are_corrected_within_bounds() -> None:
    policy = SloAdmission(Slo(ttft_s=1.0))
    for _ in range(200):
        policy.observe(policy.correction * 0.1, 0.2)
    assert policy.correction == pytest.approx(2.0, rel=0.01)
    for _ in range(200):
        policy.observe(policy.correction * 0.1, 100.0)
    assert policy.correction <= 3.0
    policy.observe(0.0, 1.0)
    policy.observe(1.0, 0.0)


def test_what_comes_late_makes_it_careful_and_what_is_in_time_bold() -> None:
    policy = SloAdmission(Slo(ttft_s=1.0))
    for _ in range(5):
        policy.observe(0.9, 1.1)
    assert policy.excess_s(0.9, 0.1) > 0
    for _ in range(200):
        policy.observe(0.7, 0.7)
    assert policy.excess_s(0.99, 0.1) == 0
    for _ in range(200):
        policy.observe(5.0, 5.0)
    assert policy.aim == 1.0, "what could never be in time says nothing"


def test_limits_that_are_met_and_missed() -> None:
    policy = SloAdmission(Slo(ttft_s=1.0, tpot_s=0.1))
    assert policy.is_met(0.5, 0.2) == {"ttft": True, "tpot": False}
    assert policy.is_met(0.5, None) == {"ttft": True}
    assert SloAdmission(Slo()).is_met(0.5, 0.2) == {}


@given(st.floats(0, 1e9), st.text(max_size=40))
def test_times_to_return_are_bounded_and_no_shorter_than_the_wait(wait_s: float, call: str) -> None:
    seconds = retry_after_s(wait_s, call)
    assert 1 <= seconds <= 120 and (seconds >= wait_s or seconds == 120)
    assert seconds == retry_after_s(wait_s, call)
    assert seconds <= 1.5 * wait_s + 1


def test_clients_that_were_refused_together_return_apart() -> None:
    assert len({retry_after_s(40.0, f"call-{number}") for number in range(100)}) > 10


def test_the_rate_follows_what_ends() -> None:
    rate = DrainRate()
    assert rate.wait_s(1) is None
    for tick in range(200):
        rate.advance(tick * 0.1, 1, is_busy=True)
    assert rate.wait_s(20) == pytest.approx(2.0, rel=0.05)
    rate.advance(20.0, 0, is_busy=False)
    rate.advance(1000.0, 0, is_busy=True)
    assert rate.wait_s(20) == pytest.approx(2.0, rel=0.05), "idle time tells nothing"
    for tick in range(1, 400):
        rate.advance(1000.0 + tick * 0.5, 1, is_busy=True)
    assert rate.wait_s(20) == pytest.approx(10.0, rel=0.05)
