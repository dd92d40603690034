"""Look-ahead eviction beside a slow obvious twin, and what it is for."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from artesian.context.policies import LeafFirstLru, QueueAware, Rank

WINDOW_BYTES = 60


class Twin:
    """Works everything out anew, from the jobs in the window and the last use of each block."""

    def __init__(self) -> None:
        self.sizes: dict[bytes, int] = {}
        self.used: dict[bytes, int] = {}
        self.jobs: dict[Rank, Sequence[bytes]] = {}
        self.window: list[Rank] = []
        self.time = 0

    def claimant(self, name: bytes) -> Rank | None:
        return next((rank for rank in self.window if name in self.jobs[rank]), None)

    def touch(self, name: bytes) -> None:
        self.time += 1
        self.used[name] = self.time

    def add(self, name: bytes, num_bytes: int) -> None:
        if name not in self.sizes:
            self.touch(name)
        self.sizes[name] = num_bytes

    def forget(self, name: bytes) -> None:
        self.sizes.pop(name, None)

    def use(self, names: Sequence[bytes]) -> None:
        for name in reversed(names):
            if self.claimant(name) is None:
                self.touch(name)

    def enqueue(self, rank: Rank, names: Sequence[bytes]) -> None:
        self.dequeue(rank)
        self.jobs[rank] = names
        if self.window and rank < self.window[-1]:
            self.window = sorted([*self.window, rank])
        self.resize()

    def dequeue(self, rank: Rank) -> None:
        if rank not in self.jobs:
            return
        if rank in self.window:
            self.leave(rank)
        del self.jobs[rank]
        self.resize()

    def leave(self, rank: Rank) -> None:
        self.window.remove(rank)
        for name in reversed(self.jobs[rank]):
            if self.claimant(name) is None:
                self.touch(name)

    def resize(self) -> None:
        most = len(self.jobs)
        num_names = sum(len(names) for names in self.jobs.values())
        if num_names and self.sizes:
            mean = num_names / len(self.jobs) * sum(self.sizes.values()) / len(self.sizes)
            most = max(1, int(WINDOW_BYTES // mean))
        while len(self.window) > most:
            self.leave(self.window[-1])
        self.window = sorted(self.jobs)[: max(len(self.window), min(most, len(self.jobs)))]

    def order(self) -> list[bytes]:
        idle = [name for name in self.sizes if self.claimant(name) is None]
        order = sorted(idle, key=self.used.__getitem__)
        for rank in reversed(self.window):
            order += [
                name
                for name in reversed(self.jobs[rank])
                if name in self.sizes and self.claimant(name) == rank
            ]
        return order


def prefixes(text: str) -> list[bytes]:
    return [text[: end + 1].encode() for end in range(len(text))]


PATHS = st.text("ab", min_size=0, max_size=5)
RANKS = st.tuples(st.integers(0, 1), st.integers(0, 9))
OPERATIONS = st.one_of(
    st.tuples(st.just("add"), PATHS, st.integers(1, 9)),
    st.tuples(st.just("forget"), PATHS, st.integers(0, 5)),
    st.tuples(st.just("use"), PATHS, st.just(0)),
    st.tuples(st.just("enqueue"), PATHS, RANKS),
    st.tuples(st.just("dequeue"), st.just(""), RANKS),
)


@given(st.lists(OPERATIONS, max_size=60))
def test_it_does_what_the_twin_does(operations: list[tuple[str, str, object]]) -> None:
    policy, twin = QueueAware(WINDOW_BYTES), Twin()
    for kind, text, argument in operations:
        names = prefixes(text)
        for one in (policy, twin):
            if kind == "add" and isinstance(argument, int):
                for name in names:
                    one.add(name, argument)
            elif kind == "forget" and isinstance(argument, int):
                for name in names[argument:]:
                    one.forget(name)
            elif kind == "use":
                one.use(names)
            elif kind == "enqueue" and isinstance(argument, tuple):
                one.enqueue(argument, names)
            elif kind == "dequeue" and isinstance(argument, tuple):
                one.dequeue(argument)
        assert len(policy) == len(twin.sizes)
        order = twin.order()
        assert policy.choose(10**6, frozenset(), 0.0) == order
        spared = frozenset(order[::2])
        assert policy.choose(10**6, spared, 0.0) == order[1::2]
        if order:
            assert policy.choose(twin.sizes[order[0]] + 0.5, frozenset(), 0.0) == order[:2]


@given(st.lists(PATHS, max_size=20), st.lists(PATHS, max_size=20))
def test_without_a_queue_it_is_leaf_first_lru(added: list[str], used: list[str]) -> None:
    policies = (QueueAware(100), LeafFirstLru())
    for policy in policies:
        for text in added:
            for name in prefixes(text):
                policy.add(name, 1)
            policy.use(prefixes(text))
        for text in used:
            policy.use(prefixes(text))
    one, other = (policy.choose(10**6, frozenset(), 0.0) for policy in policies)
    assert one == other


def test_a_loop_that_is_too_long_for_lru_hits() -> None:
    """Ten sessions take turns, room is for five: LRU throws out the one whose turn comes next."""

    def hits(policy: QueueAware | LeafFirstLru) -> int:
        count = 0
        names = [[f"{i}".encode()] for i in range(10)]
        for i in range(10):
            policy.enqueue((i,), names[i])
        for turn in range(200):
            wanted = names[turn % 10]
            policy.dequeue((turn,))
            count += wanted[0] in policy
            policy.add(wanted[0], 10)
            policy.use(wanted)
            policy.enqueue((turn + 10,), wanted)
            while len(policy) > 5:
                policy.forget(policy.choose(10, frozenset(), 0.0)[0])
        return count

    assert hits(LeafFirstLru()) == 0
    assert hits(QueueAware(window_bytes=50)) < 40
    assert hits(QueueAware(window_bytes=100)) > 90
    assert hits(QueueAware()) > 90
