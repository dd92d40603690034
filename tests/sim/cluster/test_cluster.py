"""A simulated cluster: times by hand, nothing lost, and what policies do in it."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from artesian.cluster.policies import (
    Disaggregation,
    FixedOffload,
    LoadAwareOffload,
    QueueTimeBalancer,
    Role,
    WorkerLoad,
)
from artesian.profile import StepCosts
from artesian.sim.cluster import Call, Cluster, Machine, Policies, Report, Targets

COSTS = StepCosts(fixed_s=0.01, row_s=0.001, prompt_row_s=0.001, kv_token_s=1e-6, pair_s=0.0)
MACHINE = Machine(
    name="test",
    costs=COSTS,
    kv_bytes=1000.0,
    capacity_tokens=10_000,
    prompt_tokens=100,
    mixed_tokens=50,
    link_bytes_per_s=1e9,
    handover_s=0.002,
    executor_bytes_per_s=lambda share: 1e9 * min(1.0, 3 * share),
    slowdown=lambda share: 1 / (1 - share),
    sync_s=0.0001,
    offload_s=0.0002,
)
ONE_EACH: tuple[Role, ...] = ("prefill", "decode")


class Always(Disaggregation):
    """However long that takes."""

    def wants_peer(
        self, num_uncached: int, decode: WorkerLoad, peers: Sequence[WorkerLoad] = ()
    ) -> bool:
        return True


def always_peer(**others: Any) -> Policies:
    """Prompts of any length are computed by a peer."""
    return Policies(disaggregation=Always(), **others)


def test_one_request_on_one_worker_by_hand() -> None:
    """Two steps for the prompt, the second gives a token; then a step for each of the others."""
    report = Cluster(MACHINE, ["both"], Policies()).run([Call(5.0, 150, 3)])
    first_s = (0.01 + 0.1) + (0.01 + 0.05)
    assert report.ttft_ms[0] == pytest.approx(first_s * 1e3)
    later_s = [0.011 + (150 + n) * 1e-6 for n in (1, 2)]
    assert report.tpot_ms[0] == pytest.approx(sum(later_s) / 2 * 1e3)
    assert report.duration_s == pytest.approx(5.0 + first_s + sum(later_s))
    assert report.num_finished == 1


def test_one_request_on_two_workers_by_hand() -> None:
    """The one that decodes runs the last token of the prompt."""
    report = Cluster(MACHINE, ONE_EACH, always_peer()).run([Call(5.0, 150, 3)])
    first_s = (0.01 + 0.1) + (0.01 + 0.05) + 0.002 + 0.011 + 150e-6
    assert report.ttft_ms[0] == pytest.approx(first_s * 1e3)
    assert report.duration_s == pytest.approx(5.0 + first_s + 0.022 + 303e-6)


def test_a_prompt_holds_up_answers_where_they_share_a_worker() -> None:
    calls = [Call(0.0, 10, 200), Call(1.0, 2000, 1)]
    whole = replace(MACHINE, mixed_tokens=4000, prompt_tokens=4000)
    apart = Cluster(whole, ONE_EACH, always_peer()).run(calls)
    chunked = Cluster(MACHINE, ["both"], Policies()).run(calls)
    unchunked = Cluster(whole, ["both"], Policies()).run(calls)
    assert apart.tpot_ms[0] < 1.05 * 11.2
    assert unchunked.tpot_ms[0] > apart.tpot_ms[0] + 2000 / 200 - 1
    assert apart.tpot_ms[0] < chunked.tpot_ms[0]


def test_cached_tokens_are_not_computed() -> None:
    cold = Cluster(MACHINE, ["both"], Policies()).run([Call(0.0, 1000, 1)])
    warm = Cluster(MACHINE, ["both"], Policies()).run([Call(0.0, 1000, 1, num_cached_tokens=900)])
    assert warm.ttft_ms[0] < cold.ttft_ms[0] - 890


def load(num: int, seed: int, output: int = 60) -> list[Call]:
    rng = random.Random(seed)
    return [
        Call(rng.uniform(0, num / 20), rng.randint(1, 600), rng.randint(1, output))
        for _ in range(num)
    ]


SHAPES: tuple[Sequence[Role], ...] = (
    ["both"],
    ["both", "both"],
    ["prefill", "decode"],
    ["prefill", "prefill", "decode"],
    ["prefill", "decode", "decode"],
    ["prefill", "decode", "both"],
)


@pytest.mark.parametrize("roles", SHAPES, ids="-".join)
@pytest.mark.parametrize("offload", [None, FixedOffload(0.7), LoadAwareOffload("any")])
@pytest.mark.parametrize("capacity", [1000, 10_000])
def test_every_request_is_answered_and_nothing_is_left(
    roles: Sequence[Role], offload: FixedOffload | LoadAwareOffload | None, capacity: int
) -> None:
    """With little room sequences are preempted, called back, and computed again."""
    calls = load(120, len(roles))
    machine = replace(MACHINE, capacity_tokens=capacity)
    cluster = Cluster(machine, roles, always_peer(offload=offload))
    report = cluster.run(calls)
    assert report.num_finished == len(calls)
    assert report.num_refused == 0
    num_again = 0 if capacity == 10_000 else report.num_preemptions
    assert report.num_preemptions == num_again
    total = sum(call.num_output_tokens for call in calls)
    assert report.tokens_per_s * report.duration_s == pytest.approx(total)
    for instance in cluster.instances.values():
        assert not len(instance.batch) and not instance.coming and not instance.waiting
        assert instance.local_tokens == instance.lent_tokens == instance.reserved == 0
        assert not instance.is_lending
        assert instance.busy_s <= report.duration_s + 1e-9
    if offload is not None and "prefill" in roles and capacity == 10_000:
        assert report.offload_ratio > 0


def test_a_run_is_repeatable() -> None:
    """Also where sequences of one length could be called back in any order."""
    machine = replace(MACHINE, capacity_tokens=3000)
    calls = [replace(call, num_prompt_tokens=100) for call in load(80, 1)]

    def once() -> Report:
        policies = always_peer(offload=LoadAwareOffload())
        return Cluster(machine, ONE_EACH, policies, max_output_tokens=60).run(calls)

    first = once()
    kept = [object() for _ in range(10_000)]  # the next ones lie elsewhere in memory
    assert once() == first
    assert kept


def test_what_fits_nowhere_is_refused() -> None:
    report = Cluster(MACHINE, ["both"], Policies()).run([Call(0, 9_990, 11), Call(0, 10, 2)])
    assert (report.num_finished, report.num_refused) == (1, 1)


def test_offloading_pays_where_memory_is_short_and_attention_long() -> None:
    """20 sequences of 500 tokens fill the memory of the one that decodes."""
    machine = replace(MACHINE, costs=replace_costs(kv_token_s=1e-5), kv_bytes=1e4)
    machine = replace(machine, executor_bytes_per_s=lambda share: 0.8e9)
    calls = [Call(0.01 * n, 300, 400) for n in range(200)]

    def tokens_per_s(offload: FixedOffload | LoadAwareOffload | None) -> float:
        cluster = Cluster(machine, ONE_EACH, always_peer(offload=offload), max_output_tokens=400)
        return cluster.run(calls, from_s=10, until_s=25).tokens_per_s

    base = tokens_per_s(None)
    assert tokens_per_s(FixedOffload(0.7)) > 1.3 * base
    assert tokens_per_s(LoadAwareOffload("any")) > 1.3 * base


def replace_costs(**changes: float) -> StepCosts:
    values = {name: getattr(COSTS, name) for name in COSTS.__struct_fields__}
    return StepCosts(**(values | changes))


def test_an_executor_that_is_too_slow_is_not_used() -> None:
    machine = replace(MACHINE, executor_bytes_per_s=lambda share: 1.0)
    policies = always_peer(offload=LoadAwareOffload())
    report = Cluster(machine, ONE_EACH, policies).run(load(80, 1))
    assert report.offload_ratio == 0
    forced = Cluster(machine, ONE_EACH, always_peer(offload=FixedOffload(0.5))).run(load(80, 1))
    assert forced.mean_tpot_ms > 10 * report.mean_tpot_ms


def test_roles_follow_a_load_that_changes() -> None:
    """Long prompts and no answers: workers that decode have little to do."""
    calls = [Call(n * 0.25, 900, 2) for n in range(600)]
    roles: tuple[Role, ...] = ("prefill", "decode", "decode", "decode")
    fixed = Cluster(MACHINE, roles, always_peer()).run(calls)
    moving = Cluster(MACHINE, roles, always_peer(balancer=QueueTimeBalancer(rest_s=20))).run(calls)
    assert moving.num_role_changes >= 1
    assert moving.num_finished == fixed.num_finished == 600
    assert moving.ttft_ms[1] < 0.7 * fixed.ttft_ms[1]


def test_goodput_counts_those_that_met_their_targets() -> None:
    calls = [Call(0.0, 1000, 10), Call(60.0, 10, 10)]
    for targets, num in ((Targets(), 2), (Targets(ttft_s=0.5), 1), (Targets(tpot_s=0.001), 0)):
        report = Cluster(MACHINE, ["both"], Policies(), targets=targets).run(calls)
        assert report.goodput_per_s * report.duration_s == pytest.approx(num)


def test_a_window_counts_what_happens_in_it() -> None:
    calls = [Call(float(n), 10, 5) for n in range(100)]
    report = Cluster(MACHINE, ["both"], Policies()).run(calls, from_s=20.5, until_s=60.5)
    assert report.num_finished == 40
    assert report.tokens_per_s == pytest.approx(5.0)
    assert report.duration_s == pytest.approx(40.0)
