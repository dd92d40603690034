"""What is put over a policy: times to live, pins with a budget, tenants' shares."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artesian.context.policies import (
    Expiry,
    Fifo,
    LeafFirstLru,
    Lru,
    Pins,
    QueueAware,
    TenantQuotas,
)
from artesian.context.policies.base import MOST_AT_ONCE

NAMES = [bytes([letter]) for letter in b"abcdefgh"]
NOBODY: frozenset[bytes] = frozenset()


def test_lru_and_fifo_know_nothing_of_prefixes() -> None:
    for policy, order in ((Lru(), [b"c", b"a", b"b"]), (Fifo(), [b"a", b"b", b"c"])):
        for name in NAMES[:3]:
            policy.add(name, 10)
        policy.use([b"a", b"b", b"unknown"])
        assert policy.choose(1000, NOBODY, 0) == order
        assert policy.choose(11, {b"c"}, 0) == [b"a", b"b"]
        policy.forget(b"a")
        assert b"a" not in policy and len(policy) == 2


def test_one_decision_is_short() -> None:
    policy = LeafFirstLru()
    for number in range(3 * MOST_AT_ONCE):
        policy.add(number.to_bytes(4, "big"), 1)
    assert len(policy.victims(10**6, 10)) == MOST_AT_ONCE


def test_what_nobody_used_expires_even_if_there_is_room() -> None:
    policy = Expiry(LeafFirstLru(), ttl_s=10)
    for time, name in enumerate(NAMES[:4]):
        policy.add(name, 10, time)
    policy.use([b"a", b"b"], 5)
    assert policy.victims(40, 1000, now=11) == []
    assert policy.victims(40, 1000, now=12) == [b"c"]
    assert policy.victims(40, 1000, now=13) == [b"c", b"d"]
    assert policy.victims(40, 1000, now=15) == [b"c", b"d", b"b", b"a"]
    assert policy.victims(40, 1000, now=15, spared=[b"c"]) == [b"d", b"b", b"a"]
    policy.forget(b"c")
    assert policy.victims(40, 1000, now=13) == [b"d"]
    assert policy.victims(100, 100, now=5) == [b"d"]


def test_what_a_job_waits_for_does_not_expire() -> None:
    policy = Expiry(QueueAware(), ttl_s=10)
    policy.add(b"a", 10, 0)
    policy.enqueue((1,), [b"a", b"b"], 1)
    policy.enqueue((2,), [b"a"], 2)
    policy.add(b"b", 10, 3)
    assert policy.victims(20, 1000, now=50) == []
    policy.dequeue((1,), 60)
    assert policy.victims(20, 1000, now=69) == []
    assert policy.victims(20, 1000, now=70) == [b"b"]
    policy.dequeue((2,), 71)
    policy.dequeue((3,), 71)
    assert policy.victims(20, 1000, now=81) == [b"b", b"a"]


def test_pins_are_refused_beyond_the_budget() -> None:
    policy = Pins(LeafFirstLru(), budget_bytes=25)
    for name in NAMES[:4]:
        policy.add(name, 10)
    assert policy.pin([b"a", b"b", b"c"], until_s=100, now=0) == 2
    assert policy.pin([b"c"], until_s=100, now=0) == 0
    assert policy.pin([b"a", b"b"], until_s=50, now=0) == 2  # no shorter for that
    assert policy.pinned_bytes == 20
    assert policy.choose(1000, NOBODY, 1) == [b"c", b"d"]
    assert policy.choose(1000, NOBODY, 60) == [b"c", b"d"]
    assert policy.choose(1000, NOBODY, 100) == [b"c", b"d", b"b", b"a"]
    assert policy.pinned_bytes == 0


def test_a_pin_goes_with_its_block_and_grows_with_it() -> None:
    policy = Pins(LeafFirstLru(), budget_bytes=25)
    policy.add(b"a", 10)
    policy.add(b"b", 10)
    assert policy.pin([b"a", b"b", b"gone"], until_s=100, now=0) == 2
    policy.forget(b"a")
    assert policy.pinned_bytes == 10
    assert b"a" not in policy
    policy.add(b"b", 20)
    assert policy.pinned_bytes == 20
    policy.add(b"b", 30)
    assert policy.pinned_bytes == 0
    assert policy.choose(1000, NOBODY, 1) == [b"b"]
    assert policy.pin([b"b"], until_s=0, now=1) == 0


PIN_OPERATIONS = st.tuples(
    st.sampled_from(["add", "forget", "pin", "unpin", "use"]),
    st.integers(0, 7),
    st.integers(1, 30),
)


@given(st.lists(PIN_OPERATIONS, max_size=80))
def test_pins_never_leak(operations: list[tuple[str, int, int]]) -> None:
    budget = 60
    policy = Pins(LeafFirstLru(), budget)
    sizes: dict[bytes, int] = {}
    pinned: dict[bytes, int] = {}
    for now, (kind, number, argument) in enumerate(operations):
        name = NAMES[number]
        pinned = {name: until for name, until in pinned.items() if until > now}
        if kind == "add":
            policy.add(name, argument, now)
            sizes[name] = argument
            if name in pinned and sum(sizes[other] for other in pinned) > budget:
                del pinned[name]
        elif kind == "forget":
            policy.forget(name)
            sizes.pop(name, None)
            pinned.pop(name, None)
        elif kind == "pin":
            fits = name in pinned or (
                name in sizes and sizes[name] + sum(sizes[other] for other in pinned) <= budget
            )
            assert policy.pin([name], now + argument, now) == fits
            if fits:
                pinned[name] = max(pinned.get(name, 0), now + argument)
        elif kind == "unpin":
            policy.unpin([name], now)
            pinned.pop(name, None)
        else:
            policy.use([name], now)
        assert set(policy.choose(10**6, NOBODY, now)) == sizes.keys() - pinned.keys()
        assert policy.pinned_bytes == sum(sizes[name] for name in pinned) <= budget
        assert len(policy) == len(sizes)
    assert set(policy.choose(10**6, NOBODY, 10**6)) == sizes.keys()


def test_a_tenant_alone_may_have_everything() -> None:
    policy = TenantQuotas(LeafFirstLru)
    for name in NAMES:
        policy.add(name, 10, tenant="one")
    assert policy.victims(80, 100) == []
    assert policy.victims(96, 100) == [b"a"]


def test_who_has_more_than_its_share_makes_room() -> None:
    policy = TenantQuotas(LeafFirstLru, {"heavy": 3.0})
    for number in range(60):
        policy.add(b"heavy%d" % number, 1, tenant="heavy")
    for number in range(40):
        policy.add(b"light%d" % number, 1, tenant="light")
    chosen = policy.choose(20, NOBODY, 0)
    assert chosen == [b"light%d" % number for number in range(20)]
    for name in chosen:
        policy.forget(name)
    chosen = policy.choose(8, NOBODY, 0)
    assert len(chosen) == 8
    assert sum(name.startswith(b"light") for name in chosen) == 2
    with pytest.raises(ValueError, match="'x' is 0"):
        TenantQuotas(LeafFirstLru, {"x": 0})


QUOTA_OPERATIONS = st.tuples(
    st.sampled_from(["add", "add", "add", "forget", "evict"]),
    st.integers(0, 30),
    st.sampled_from("xyz"),
    st.integers(1, 9),
)


@given(st.lists(QUOTA_OPERATIONS, max_size=100))
def test_nobody_below_its_share_loses_anything(
    operations: list[tuple[str, int, str, int]],
) -> None:
    weights = {"x": 2.0, "y": 0.5}
    policy = TenantQuotas(LeafFirstLru, weights)
    sizes: dict[bytes, int] = {}
    for kind, number, tenant, size in operations:
        name = b"%s%d" % (tenant.encode(), number)
        if kind == "add":
            policy.add(name, size, tenant=tenant)
            sizes[name] = size
        elif kind == "forget":
            policy.forget(name)
            sizes.pop(name, None)
        else:
            wanted = size * 3
            chosen = policy.choose(wanted, NOBODY, 0)
            assert len(set(chosen)) == len(chosen)
            taken = sum(sizes[name] for name in chosen)
            assert taken >= min(wanted, sum(sizes.values()))
            levels: dict[str, float] = defaultdict(float)
            after: dict[str, float] = defaultdict(float)
            for name, num_bytes in sizes.items():
                owner = name[:1].decode()
                levels[owner] += num_bytes / weights.get(owner, 1.0)
                if name not in chosen:
                    after[owner] += num_bytes / weights.get(owner, 1.0)
            for loser in {name[:1].decode() for name in chosen}:
                slack = 9 / weights.get(loser, 1.0)  # one block too many
                assert after[loser] + slack >= max(after[other] for other in levels) - 1e-9
            for name in chosen:
                policy.forget(name)
                del sizes[name]
        totals: dict[str, int] = defaultdict(int)
        for name, num_bytes in sizes.items():
            totals[name[:1].decode()] += num_bytes
        assert all(policy.used_bytes(tenant) == totals[tenant] for tenant in "xyz")


def test_tenants_that_left_are_forgotten() -> None:
    policy = TenantQuotas(QueueAware)
    for number in range(100):
        tenant = str(number)
        policy.enqueue((number,), [b"%d" % number], tenant=tenant)
        policy.add(b"%d" % number, 5, tenant=tenant)
        policy.dequeue((number,))
        policy.forget(b"%d" % number)
    assert len(policy) == 0
    assert len(policy._policies) == 0
    policy.add(b"a", 5, tenant="x")
    policy.add(b"b", 5, tenant="x")
    policy.enqueue((1,), [b"a"], tenant="x")
    policy.use([b"unknown", b"a"])
    assert policy.choose(10, NOBODY, 0) == [b"b", b"a"]
