"""Policies of files: eviction beside slow twins, and what is fetched ahead."""

import random
from collections.abc import Sequence

import pytest

from artesian.files.base import Block
from artesian.files.policies import (
    Demand,
    Eager,
    Eviction,
    Fill,
    FolderAhead,
    Ghosts,
    KeepResidents,
    Lru,
    OriginCost,
    PrefetchBudget,
    ReadAhead,
    S3Fifo,
    Siblings,
    SpaceSharing,
    idle_limit_s,
    is_reread,
)


def block(number: int) -> Block:
    return Block("a", number)


@pytest.mark.parametrize("kind", [Lru, S3Fifo, KeepResidents, Eager])
def test_all_keep_account_and_give_every_block_once(kind: type[Eviction]) -> None:
    dice = random.Random(3)
    policy = kind()
    held: dict[Block, int] = {}
    for _ in range(3000):
        name = block(dice.randrange(60))
        match dice.randrange(4):
            case 0:
                held[name] = dice.randrange(1, 100)
                policy.add(name, held[name])
            case 1:
                assert policy.remove(name) == held.pop(name, 0)
            case _:
                policy.use(name)
        assert policy.used_bytes == sum(held.values())
        assert (name in policy) == (name in held)
        assert dict(policy.items()) == held
    order = list(policy.order())
    assert sorted(order) == sorted(held)


def test_lru_is_its_slow_twin_and_knows_its_margin() -> None:
    dice = random.Random(5)
    policy, twin = Lru(margin_bytes=25), list[Block]()
    for _ in range(2000):
        name = block(dice.randrange(40))
        if name in twin:
            # Ten bytes each: the margin is the three used longest ago.
            assert policy.use(name) == (name in twin[:3])
            twin.remove(name)
        else:
            policy.add(name, 10)
        twin.append(name)
        assert list(policy.order()) == twin
        if len(twin) > 20:
            policy.remove(twin.pop(0))


def test_s3fifo_lets_scans_pass_by() -> None:
    policy = S3Fifo()
    for number in range(20):
        policy.add(block(number), 1)
        policy.use(block(number))
        policy.use(block(number))
    for number in range(100, 200):
        policy.add(block(number), 1)
        policy.remove(next(policy.order()))
    assert sum(block(number) in policy for number in range(20)) >= 18


def test_eager_gives_what_was_read_and_keeps_what_comes() -> None:
    policy = Eager()
    for number in range(100):
        policy.add(block(number), 1)
    for number in range(60):
        policy.use(block(number))
    spent = [b.number for b in policy.spent()]
    assert spent == list(range(60 - 32)), "readers may still be in the latest"
    policy.use(block(200))
    policy.add(block(200), 1)
    assert [b.number for b in policy.order()][-1] == 200


def test_residents_go_last_used_first_and_guests_before_them() -> None:
    policy = KeepResidents()
    for number in range(20):
        policy.add(block(number), 1)
    policy.use(block(3))
    policy.add_guest(block(100), 1, was_read=False)
    assert list(policy.spent()) == []
    assert next(policy.order()) == block(3)
    for number in range(200, 210):
        policy.add_guest(block(number), 1, was_read=True)
    assert [b.number for b in policy.spent()] == [200, 201, 202]
    policy.use(block(100))
    assert [b.number for b in policy.order()][:11] == [*range(200, 210), 100]


def test_keeping_residents_hits_its_share_of_a_shuffle() -> None:
    dice = random.Random(1)
    hits = {Lru: 0, KeepResidents: 0}
    for kind in hits:
        policy = kind()
        for epoch in range(6):
            order = list(range(200))
            dice.shuffle(order)
            for number in order:
                name = block(number)
                if name in policy:
                    policy.use(name)
                    hits[kind] += epoch > 0
                elif policy.used_bytes < 100 or kind is Lru:
                    policy.add(name, 1)
                    if policy.used_bytes > 100:
                        policy.remove(next(policy.order()))
    assert hits[KeepResidents] == 5 * 100
    assert hits[Lru] < 0.7 * hits[KeepResidents]


def test_ghosts_are_bounded() -> None:
    ghosts = Ghosts(100)
    for number in range(50):
        ghosts.add(block(number), 10)
    assert len(ghosts) == 10
    assert ghosts.take(block(45))
    assert not ghosts.take(block(45))
    assert not ghosts.take(block(1))


def windows(policy: ReadAhead, numbers: Sequence[int], most: int = 64) -> list[tuple[int, int]]:
    found = [policy.access(1, "d/f", n, n + 1, 1000, most) for n in numbers]
    return [window for window in found if window is not None]


def test_a_window_doubles_while_it_is_used() -> None:
    found = windows(ReadAhead(), range(200))
    covered = [n for first, end in found for n in range(first, end)]
    assert covered == list(range(1, 1 + len(covered))), "in order, nothing twice, no gap"
    sizes = [end - first for first, end in found]
    assert sizes[0] == 1
    assert max(sizes) <= 64
    assert found[-1][1] - 199 > 32, "the last one read is half a window behind at most"


def test_random_reads_are_not_read_ahead() -> None:
    dice = random.Random(2)
    found = windows(ReadAhead(), [dice.randrange(1, 1000) for _ in range(300)])
    assert sum(end - first for first, end in found) < 20


def test_the_next_file_begins_with_what_the_last_one_came_to() -> None:
    policy = ReadAhead()
    windows(policy, range(200))
    first = policy.access(2, "d/g", 0, 1, 1000, 64)
    assert first == (1, 33)
    assert policy.access(2, "other/g", 0, 1, 1000, 64) == (1, 2)


def test_a_window_ends_with_the_file_and_the_bound() -> None:
    policy = ReadAhead()
    found = [policy.access(3, "d/h", n, n + 1, 10, 8) for n in range(10)]
    assert all(window is None or window[1] <= 10 for window in found)
    assert ReadAhead().access(1, "d/f", 0, 1, 1000, 0) is None


@pytest.mark.parametrize("stride", [1, 3, -1])
def test_files_come_ahead_in_the_order_of_the_reader(stride: int) -> None:
    policy, names = FolderAhead(), [f"f{number:03}" for number in range(100)]
    ranks = list(range(100))[::stride]
    fetched: list[str] = []
    for rank in ranks:
        new = policy.access(1, "d", rank, stride, names, 8)
        assert not set(new) & set(fetched)
        fetched += new
    assert fetched == [names[rank] for rank in ranks[1:]]


def test_a_fill_goes_once_through_all_folders() -> None:
    listings = {"s3://b/d": ["x", "y", "sub"], "s3://b/d/sub": ["z"]}
    fill = Fill("s3://b/d", listings)
    assert fill.next(2) == ["s3://b/d/x", "s3://b/d/y"]
    assert not fill.is_done
    assert fill.next(5) == ["s3://b/d/sub/z"]
    assert fill.is_done


def test_siblings_are_learned_from_what_follows() -> None:
    policy, dice = Siblings(), random.Random(4)
    for _ in range(20):
        model = dice.choice("abc")
        policy.access(1, f"{model}/config")
        policy.access(1, f"{model}/weights")
    assert policy.access(1, "a/config") == ["a/weights"]


def test_a_budget_is_a_bound_that_waste_makes_smaller() -> None:
    budget = PrefetchBudget(1000)
    asked = [n for n in range(100) if budget.ask(n, 100, 0.0)]
    assert asked == list(range(10))
    assert not budget.ask(0, 100, 0.0), "it is on its way already"
    budget.used(0)
    assert budget.ask(50, 100, 0.0)
    for number in range(100, 500):
        budget.used(1)
        budget.ask(number, 1, 0.0)
        budget.wasted(number)
    assert budget.precision < 0.5
    for number in asked:
        budget.used(number)
    assert budget.left_bytes < 500
    for number in range(500, 900):
        budget.ask(number, 1, 0.0)
        budget.used(number)
    assert budget.left_bytes > 800


def test_what_never_came_does_not_take_the_budget_for_ever() -> None:
    budget = PrefetchBudget(100)
    assert budget.ask(1, 100, 0.0)
    assert not budget.ask(2, 100, 1.0)
    assert budget.ask(2, 100, 1000.0)


def test_cost_is_learned_from_requests_of_different_sizes() -> None:
    cost, dice = OriginCost(), random.Random(6)
    for _ in range(500):
        num_bytes = dice.choice([4 << 10, 1 << 20, 4 << 20])
        cost.learn(num_bytes, 0.05 + num_bytes / 20e6)
    assert cost.first_s == pytest.approx(0.05, rel=0.05)
    assert cost.bytes_per_s == pytest.approx(20e6, rel=0.05)
    same = OriginCost()
    for _ in range(100):
        same.learn(1 << 20, 0.2)
    assert same.cost_s(1 << 20) == pytest.approx(0.2, rel=0.05)


def test_rescans_and_idle_limits() -> None:
    assert not is_reread(16, 1, False)
    assert is_reread(16, 4, False)
    assert is_reread(0, 0, True)
    assert idle_limit_s(0, 0, 0) == 60
    assert idle_limit_s(100, 50, 300) == 600


def demand(gain: float, loss: float, used: int = 500, **more: float) -> Demand:
    most = more.get("most", float("inf"))
    return Demand(gain, loss, used, 20, most, bool(more.get("idle", 0)))


def test_room_goes_from_the_least_loss_to_the_greatest_gain() -> None:
    space = SpaceSharing(1000)
    space.shares = {0: 0, 1: 500, 2: 500}
    demands = {0: demand(0, 0, 0), 1: demand(5, 5), 2: demand(1, 1)}
    for _ in range(100):
        space.step(demands)
        assert sum(space.shares.values()) == 1000
    assert space.shares == {0: 0, 1: 980, 2: 20}, "down to its floor"
    space.shares = {0: 0, 1: 500, 2: 500}
    assert space.step({1: demand(1.1, 1), 2: demand(1, 1)}) is None, "not worth while"
    assert space.step({1: demand(5, 5, most=500), 2: demand(1, 1)}) is None, "it is whole"
    assert space.step({1: demand(5, 5, most=400), 2: demand(1, 1)}) == (1, 2)


def test_idle_units_give_first_and_all_shrink_alike() -> None:
    space = SpaceSharing(1000)
    space.shares = {1: 300, 2: 300, 3: 400}
    assert space.step({1: demand(5, 5), 2: demand(0, 9, idle=1), 3: demand(0, 1)}) == (2, 1)
    space.resize(500)
    assert sum(space.shares.values()) in (499, 500, 498)
    space.end(2, 1)
    assert 2 not in space.shares
