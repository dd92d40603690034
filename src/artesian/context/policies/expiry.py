"""Blocks that nobody used for long go first."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence, Set

from artesian.context.policies.base import MOST_AT_ONCE, EvictionPolicy, Rank


class Expiry(EvictionPolicy):
    """Over another policy: a block that was not used for `ttl_s` goes, also when there is room.

    One that a waiting job needs does not expire, and its time begins anew when the job runs.
    CachedAttention (2403.19708) was measured with one hour.
    """

    def __init__(self, inner: EvictionPolicy, ttl_s: float) -> None:
        self._inner = inner
        self._ttl_s = ttl_s
        self._used_s: OrderedDict[bytes, float] = OrderedDict()  # oldest first; not what is queued
        self._jobs: dict[Rank, Sequence[bytes]] = {}
        self._num_jobs: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._inner)

    def __contains__(self, name: object) -> bool:
        return name in self._inner

    def add(self, name: bytes, num_bytes: int, now: float = 0.0, tenant: str = "") -> None:
        """See `EvictionPolicy`."""
        self._inner.add(name, num_bytes, now, tenant)
        self._touch(name, now)

    def forget(self, name: bytes) -> None:
        """See `EvictionPolicy`."""
        self._inner.forget(name)
        self._used_s.pop(name, None)

    def use(self, names: Sequence[bytes], now: float = 0.0) -> None:
        """See `EvictionPolicy`."""
        self._inner.use(names, now)
        for name in reversed(names):
            if name in self._used_s:
                self._touch(name, now)

    def enqueue(
        self, rank: Rank, names: Sequence[bytes], now: float = 0.0, tenant: str = ""
    ) -> None:
        """See `EvictionPolicy`."""
        self.dequeue(rank, now)
        self._inner.enqueue(rank, names, now, tenant)
        self._jobs[rank] = names
        self._num_jobs.update(names)
        for name in names:
            self._used_s.pop(name, None)

    def dequeue(self, rank: Rank, now: float = 0.0) -> None:
        """See `EvictionPolicy`."""
        self._inner.dequeue(rank, now)
        for name in reversed(self._jobs.pop(rank, ())):
            self._num_jobs[name] -= 1
            if self._num_jobs[name] == 0:
                del self._num_jobs[name]
                if name in self._inner:
                    self._touch(name, now)

    def choose(self, num_bytes: float, spared: Set[bytes], now: float) -> list[bytes]:
        """See `EvictionPolicy`."""
        return self._inner.choose(num_bytes, spared, now)

    def victims(
        self,
        used_bytes: float,
        capacity_bytes: float,
        spared: Iterable[bytes] = (),
        now: float = 0.0,
    ) -> list[bytes]:
        """See `EvictionPolicy`; what has expired comes first, and alone: the next call goes on."""
        kept = frozenset(spared)
        expired = self.expired(kept, now)
        return expired or self._inner.victims(used_bytes, capacity_bytes, kept, now)

    def expired(self, spared: Set[bytes], now: float) -> list[bytes]:
        """See `EvictionPolicy`."""
        found: list[bytes] = []
        for name, used_s in self._used_s.items():
            if used_s + self._ttl_s > now or len(found) == MOST_AT_ONCE:
                break
            if name not in spared:
                found.append(name)
        return found

    def _touch(self, name: bytes, now: float) -> None:
        if name not in self._num_jobs:
            self._used_s[name] = now
            self._used_s.move_to_end(name)
