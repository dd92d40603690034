"""The simple policies, times to live, and the window of waiting jobs beside slow twins."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artesian.context.policies import EvictionPolicy, Expiry, Fifo, LeafFirstLru, Lru, QueueAware
from artesian.context.policies.job_window import JobWindow

NOBODY: frozenset[bytes] = frozenset()
TTL_S = 5


def prefix(text: str) -> list[bytes]:
    return [text[: end + 1].encode() for end in range(len(text))]


PATHS = st.text("ab", min_size=1, max_size=4)
OPERATIONS = st.tuples(st.sampled_from(["add", "use", "forget"]), PATHS, st.integers(1, 9))


def used_order(names: Sequence[bytes]) -> Sequence[bytes]:
    return names


def leaves_first(names: Sequence[bytes]) -> Sequence[bytes]:
    return names[::-1]


def not_at_all(names: Sequence[bytes]) -> Sequence[bytes]:
    return ()


@pytest.mark.parametrize(
    ("make", "touched"), [(Lru, used_order), (LeafFirstLru, leaves_first), (Fifo, not_at_all)]
)
@given(operations=st.lists(OPERATIONS, max_size=50))
def test_the_order_is_that_of_the_last_touch(
    make: Callable[[], EvictionPolicy],
    touched: Callable[[Sequence[bytes]], Sequence[bytes]],
    operations: list[tuple[str, str, int]],
) -> None:
    policy = make()
    sizes: dict[bytes, int] = {}
    stamps: dict[bytes, int] = {}
    for kind, text, size in operations:
        names = prefix(text)
        if kind == "add":
            for name in names:
                policy.add(name, size)
                if name not in sizes:
                    stamps[name] = len(stamps) + max(stamps.values(), default=0)
                sizes[name] = size
        elif kind == "use":
            policy.use(names)
            for name in touched(names):
                if name in sizes:
                    stamps[name] = max(stamps.values()) + 1
        else:
            policy.forget(names[-1])
            sizes.pop(names[-1], None)
        order = sorted(sizes, key=stamps.__getitem__)
        assert policy.choose(10**6, NOBODY, 0) == order
        wanted, expected = 12, []
        for name in order:
            if wanted <= 0:
                break
            expected.append(name)
            wanted -= sizes[name]
        assert policy.choose(12, NOBODY, 0) == expected


JOBS = st.tuples(st.sampled_from(["add", "use", "forget", "enqueue", "dequeue"]), PATHS)


@given(st.lists(st.tuples(JOBS, st.integers(0, 3), st.integers(0, 4)), max_size=60))
def test_what_expires_is_what_nobody_used_or_waits_for(
    operations: list[tuple[tuple[str, str], int, int]],
) -> None:
    policy = Expiry(QueueAware(), TTL_S)
    used_s: dict[bytes, int] = {}
    jobs: dict[int, list[bytes]] = {}
    now = 0
    for (kind, text), seconds, number in operations:
        now += seconds
        names = prefix(text)
        leaving = jobs.get(number, []) if kind in ("enqueue", "dequeue") else []
        if kind == "add":
            policy.add(names[-1], 1, now)
            used_s[names[-1]] = now
        elif kind == "use":
            policy.use(names, now)
            used_s.update((name, now) for name in names if name in used_s)
        elif kind == "forget":
            policy.forget(names[-1])
            used_s.pop(names[-1], None)
        elif kind == "enqueue":
            policy.enqueue((number,), names, now)
            jobs[number] = names
        else:
            policy.dequeue((number,), now)
            jobs.pop(number, None)
        used_s.update((name, now) for name in leaving if name in used_s)
        waited_for = {name for job in jobs.values() for name in job}
        expired = {n for n, then in used_s.items() if then + TTL_S <= now} - waited_for
        assert set(policy.victims(0, 100, (), now)) == expired
        assert len(policy) == len(used_s)


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.integers(0, 8)), max_size=60))
def test_the_window_is_the_first_jobs(operations: list[tuple[int, bool, int]]) -> None:
    window = JobWindow()
    jobs: set[int] = set()
    inside: set[int] = set()
    for rank, comes, size in operations:
        if comes and rank not in jobs:
            if window.add((rank,), [b"x"] * rank):
                inside.add(rank)
            jobs.add(rank)
        elif not comes and rank in jobs:
            assert window.remove((rank,)) == (rank in inside)
            jobs.remove(rank)
            inside.discard(rank)
        for (changed,), enters in window.resize(size):
            (inside.add if enters else inside.remove)(changed)
        assert inside == set(sorted(jobs)[:size])
        assert window.num_inside == len(inside)
        assert [window.at(i)[0] for i in range(len(window))] == sorted(jobs)
        assert window.mean_num_blocks == (sum(jobs) / len(jobs) if jobs else 0)
