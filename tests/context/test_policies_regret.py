"""Following the policy that is missed least."""

import random

import pytest

from artesian.context.policies import EvictionPolicy, LeafFirstLru, Lru, QueueAware, RegretChooser

NOBODY: frozenset[bytes] = frozenset()


def chooser() -> RegretChooser:
    return RegretChooser([QueueAware(), LeafFirstLru()])


class Cache:
    """So many blocks under a policy; counts what hits."""

    def __init__(self, policy: EvictionPolicy, room: int) -> None:
        self.policy = policy
        self.room = room
        self.num_hits = 0

    def ask(self, names: list[bytes]) -> None:
        for name in names:
            if name not in self.policy:
                break
            self.num_hits += 1
        self.policy.use(names)
        for name in names:
            if name not in self.policy:
                self.policy.add(name, 1)
        self.policy.use(names)
        while len(self.policy) > self.room:
            for name in self.policy.choose(len(self.policy) - self.room, NOBODY, 0.0):
                self.policy.forget(name)


def test_bad_experts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        RegretChooser([])


@pytest.mark.parametrize("seed", range(5))
def test_at_low_load_it_is_as_good_as_leaf_first_lru(seed: int) -> None:
    """Hardly anybody waits: now and then one job, which runs soon."""
    chance = random.Random(seed)
    caches = [Cache(policy, 300) for policy in (chooser(), LeafFirstLru())]
    lengths = [chance.randrange(3, 30) for _ in range(60)]
    waiting: list[tuple[int, list[bytes]]] = []
    for number in range(4000):
        session = min(int(chance.expovariate(0.08)), 59)
        job = [b"%d %d" % (session, i) for i in range(lengths[session])]
        waiting.append((number, job))
        for cache in caches:
            cache.policy.enqueue((number,), job)
        if len(waiting) > 1 or chance.random() < 0.8:
            rank, job = waiting.pop(0)
            for cache in caches:
                cache.policy.dequeue((rank,))
                cache.ask(job)
    ours, lru = caches
    assert ours.num_hits >= 0.995 * lru.num_hits > 1000


def test_jobs_that_never_run_are_not_believed() -> None:
    """A queue of work that is always put off fills the tier with what nobody uses, while others
    come and go before it: leaf-first LRU is right, and is found to be."""
    caches = {
        "chooser": Cache(chooser(), 100),
        "queue": Cache(QueueAware(), 100),
        "lru": Cache(LeafFirstLru(), 100),
    }
    chance = random.Random(1)
    for cache in caches.values():
        for number in range(50):
            job = [b"put off %d %d" % (number, i) for i in range(2)]
            cache.policy.enqueue((1, number), job)
            cache.ask(job)
    for _ in range(6000):
        session = chance.randrange(12)
        for cache in caches.values():
            cache.ask([b"%d %d" % (session, i) for i in range(8)])
    hits = {name: cache.num_hits for name, cache in caches.items()}
    assert hits["queue"] < 0.5 * hits["lru"]
    assert hits["chooser"] > 0.9 * hits["lru"]


def test_a_loop_is_served_by_the_queue() -> None:
    caches = [Cache(policy, 50) for policy in (chooser(), QueueAware(), LeafFirstLru())]
    for cache in caches:
        for turn in range(3000):
            job = [b"%d %d" % (turn % 20, i) for i in range(5)]
            cache.policy.dequeue((turn,))
            cache.ask(job)
            cache.policy.enqueue((turn + 20,), job)
    ours, queue, lru = (cache.num_hits for cache in caches)
    assert lru == 0
    assert queue > 0.4 * 15000
    assert ours > 0.9 * queue


def test_what_all_would_have_taken_is_nobodys_fault() -> None:
    policy = RegretChooser([LeafFirstLru(), LeafFirstLru()])
    for number in range(200):
        Cache(policy, 5).ask([b"%d" % (number % 7)])
    assert policy.regrets == [0.0, 0.0]
    differing = RegretChooser([Lru(), LeafFirstLru()])
    cache = Cache(differing, 5)
    for number in range(2000):
        cache.ask([b"%d %d" % (number % 2, i) for i in range(4)])
    assert differing.regrets[0] > 0.5
