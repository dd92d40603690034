"""Who computes a prompt, and when workers change their roles."""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from artesian.cluster.policies import (
    ConditionalDisaggregation,
    QueueTimeBalancer,
    RoleChange,
    WorkerLoad,
)

DECODE = WorkerLoad(worker_id="d", role="decode", token_s=1e-3, step_s=0.02, num_running=4)
PREFILL = WorkerLoad(worker_id="p", role="prefill", token_s=1e-3)


def test_long_prompts_go_to_a_peer_and_short_ones_stay() -> None:
    policy = ConditionalDisaggregation(min_tokens=64, handover_s=0.5)
    wants = [n for n in range(0, 1000, 10) if policy.wants_peer(n, DECODE, [PREFILL])]
    assert wants and wants == list(range(wants[0], 1000, 10)), "there is one threshold"
    assert 100 <= wants[0] <= 130, "4 sequences wait 4 times: 0.5 s of hand-over against 4 n ms"
    assert not policy.wants_peer(63, replace(DECODE, num_running=1000), [PREFILL])


def test_queues_on_either_side_move_the_threshold() -> None:
    policy = ConditionalDisaggregation()
    busy = replace(PREFILL, queued_tokens=10_000)
    assert policy.wants_peer(500, DECODE, [PREFILL])
    assert not policy.wants_peer(500, DECODE, [busy])
    assert policy.wants_peer(500, replace(DECODE, queued_tokens=20_000), [busy])
    assert policy.wants_peer(500, DECODE, [busy, PREFILL])
    assert policy.wants_peer(500, DECODE), "a peer that is not seen is taken for idle"


def test_while_no_times_are_known_length_decides() -> None:
    policy = ConditionalDisaggregation(min_tokens=64)
    unknown = replace(DECODE, token_s=0.0)
    assert not policy.wants_peer(255, unknown)
    assert policy.wants_peer(256, unknown)


def fleet(num_prefill: int, num_decode: int, queued: int, waiting: int) -> list[WorkerLoad]:
    """`queued` tokens for all prefill workers, `waiting` sequences for all that decode."""
    prefill = replace(PREFILL, queued_tokens=queued // max(1, num_prefill))
    decode = replace(DECODE, num_waiting=waiting // max(1, num_decode), num_free_slots=0)
    if not waiting:
        decode = replace(decode, num_free_slots=8)
    return [
        *(replace(prefill, worker_id=f"p{n}") for n in range(num_prefill)),
        *(replace(decode, worker_id=f"d{n}") for n in range(num_decode)),
    ]


def watch(
    balancer: QueueTimeBalancer, observe: Callable[[float], list[WorkerLoad]], until_s: int
) -> list[tuple[int, RoleChange]]:
    """What it decides, asked once a second."""
    asked = ((second, balancer.decide(observe(second), float(second))) for second in range(until_s))
    return [(second, change) for second, change in asked if change is not None]


def test_the_side_that_waits_gets_a_worker_after_a_while() -> None:
    changes = watch(QueueTimeBalancer(), lambda _: fleet(1, 3, 10_000, 0), 11)
    assert [(s, c.role) for s, c in changes] == [(10, "prefill")]
    assert changes[0][1].worker_id.startswith("d")
    changes = watch(QueueTimeBalancer(), lambda _: fleet(3, 1, 0, 10), 11)
    assert [(s, c.role) for s, c in changes] == [(10, "decode")]


def test_the_last_worker_of_a_side_stays() -> None:
    assert not watch(QueueTimeBalancer(), lambda _: fleet(1, 1, 50_000, 0), 100)
    assert not watch(QueueTimeBalancer(), lambda _: fleet(1, 1, 0, 50), 100)


def test_a_draining_worker_is_not_counted_and_not_moved() -> None:
    workers = fleet(1, 2, 50_000, 0)
    workers[1] = replace(workers[1], is_available=False)
    assert not watch(QueueTimeBalancer(), lambda _: workers, 100)


def test_short_peaks_move_nobody() -> None:
    peaks = lambda second: fleet(2, 2, 50_000 if second % 10 < 8 else 0, 0)  # noqa: E731
    assert not watch(QueueTimeBalancer(hold_s=10), peaks, 300)


@pytest.mark.parametrize("seed", range(20))
def test_a_steady_load_does_not_make_it_flap(seed: int) -> None:
    """Roles follow its decisions; the load stays, with noise. It settles and never turns round."""
    rng = random.Random(seed)
    num_workers = rng.randint(2, 8)
    num_prefill = rng.randint(1, num_workers - 1)
    queued, waiting = rng.randint(0, 40_000), rng.randint(0, 40)
    balancer = QueueTimeBalancer(hold_s=5, rest_s=10)
    roles: list[str] = []
    for second in range(600):
        noisy = int(queued * rng.uniform(0.8, 1.2)), int(waiting * rng.uniform(0.8, 1.2))
        change = balancer.decide(
            fleet(num_prefill, num_workers - num_prefill, *noisy), float(second)
        )
        if change is not None:
            roles.append(change.role)
            num_prefill += 1 if change.role == "prefill" else -1
            assert 1 <= num_prefill < num_workers
            assert second < 10 * 15 * num_workers
    assert len(set(roles)) <= 1, f"it gave and took: {roles}"
    assert len(roles) < num_workers


@pytest.mark.parametrize("seed", range(10))
def test_however_wild_the_load_it_rests_between_changes(seed: int) -> None:
    rng = random.Random(seed)
    balancer = QueueTimeBalancer(hold_s=0, rest_s=60)
    wild = lambda _: fleet(3, 3, rng.choice((0, 90_000)), rng.choice((0, 90)))  # noqa: E731
    seconds = [second for second, _ in watch(balancer, wild, 1000)]
    assert len(seconds) > 3
    assert all(b - a >= 60 for a, b in pairwise(seconds))
