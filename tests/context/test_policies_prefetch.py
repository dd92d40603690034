"""Whose blocks are brought up before their turn."""

from collections.abc import Sequence

import pytest

from artesian.context.policies import LookAheadPrefetch


def job(number: int, num_blocks: int = 4) -> list[bytes]:
    return [b"%d %d" % (number, i) for i in range(num_blocks)]


class Tiers:
    """What host memory has; everything else is on disk."""

    def __init__(self) -> None:
        self.host: set[bytes] = set()

    def missing(self, names: Sequence[bytes]) -> Sequence[bytes]:
        return [name for name in names if name not in self.host]


def test_a_buffer_must_fit() -> None:
    for size in (0, 100, -1):
        with pytest.raises(ValueError, match=f"the buffer has {size}"):
            LookAheadPrefetch(100, size)


def test_the_window_is_what_memory_has_room_for() -> None:
    policy = LookAheadPrefetch(host_bytes=500, buffer_bytes=100)
    assert policy.window(10) == 0
    for number in range(20):
        policy.enqueue((number,), job(number))
    assert policy.window(10) == 10
    policy.enqueue((0,), job(0, 24))
    assert policy.window(10) == 8


def test_jobs_of_the_window_are_fetched_in_order() -> None:
    policy, tiers = LookAheadPrefetch(host_bytes=300, buffer_bytes=100), Tiers()
    for number in reversed(range(20)):
        policy.enqueue((number,), job(number))
    tiers.host.update(job(1))
    found: list[tuple[int, ...]] = []
    for _ in range(5):
        for rank, names in policy.choose(10, 0, tiers.missing):
            assert names == job(rank[0])
            found.append(rank)
            tiers.host.update(names)
    assert found == [(0,), (2,), (3,), (4,)]
    policy.dequeue((0,))
    policy.dequeue((99,))
    assert [rank for rank, _ in policy.choose(10, 0, tiers.missing)] == [(5,)]


def test_no_more_is_under_way_than_the_buffer_holds() -> None:
    policy, tiers = LookAheadPrefetch(host_bytes=900, buffer_bytes=100), Tiers()
    for number in range(10):
        policy.enqueue((number,), job(number))
    assert [rank for rank, _ in policy.choose(10, 0, tiers.missing)] == [(0,), (1,), (2,)]
    assert policy.choose(10, 120, tiers.missing) == []
    assert [rank for rank, _ in policy.choose(10, 60, tiers.missing)] == [(3,)]


def test_what_was_thrown_out_is_fetched_again() -> None:
    policy, tiers = LookAheadPrefetch(host_bytes=300, buffer_bytes=100), Tiers()
    for number in range(4):
        policy.enqueue((number,), job(number))
    for _ in range(3):
        for _, names in policy.choose(10, 0, tiers.missing):
            tiers.host.update(names)
    assert tiers.host.issuperset(job(2))
    tiers.host.difference_update(job(2))
    seen = {rank for _ in range(4) for rank, _ in policy.choose(10, 0, tiers.missing)}
    assert seen == {(2,)}
