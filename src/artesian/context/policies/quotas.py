"""Tenants share a tier: who takes more than their share makes room first."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from heapq import heappop, heappush

from artesian.context.policies.base import EvictionPolicy, Rank


class TenantQuotas(EvictionPolicy):
    """A policy for every tenant, and room in proportion to their weights.

    Nothing is reserved: a tenant alone may fill the tier. When room is needed, the tenants that
    use most for their weights are brought down to one level (max-min fairness), so one below its
    share loses nothing while another is above. Who is a tenant: the cache salt; names of different
    tenants differ, so each block is one tenant's.
    """

    def __init__(
        self,
        make_policy: Callable[[], EvictionPolicy],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """Makes one for an empty tier.

        Args:
            make_policy: for a tenant that is new.
            weights: by tenant, above 0; 1 for those that are not named.

        Raises:
            ValueError: a weight is not above 0.
        """
        for tenant, weight in (weights or {}).items():
            if not weight > 0:
                raise ValueError(f"the weight of tenant {tenant!r} is {weight}, not above 0")
        self._make_policy = make_policy
        self._weights = dict(weights or {})
        self._policies: dict[str, EvictionPolicy] = {}
        self._blocks: dict[bytes, tuple[str, int]] = {}
        self._used: dict[str, int] = {}
        self._queued: dict[Rank, str] = {}
        self._num_queued: dict[str, int] = {}
        self._levels: list[tuple[float, str]] = []  # a heap of -level; some are out of date
        self._changed: set[str] = set()

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, name: object) -> bool:
        return name in self._blocks

    def used_bytes(self, tenant: str) -> int:
        """Bytes of the blocks of a tenant."""
        return self._used.get(tenant, 0)

    def add(self, name: bytes, num_bytes: int, now: float = 0.0, tenant: str = "") -> None:
        """See `EvictionPolicy`; a known block stays with its tenant."""
        tenant, old = self._blocks.get(name, (tenant, 0))
        self._blocks[name] = (tenant, num_bytes)
        self._used[tenant] = self._used.get(tenant, 0) + num_bytes - old
        self._changed.add(tenant)
        self._of(tenant).add(name, num_bytes, now, tenant)

    def forget(self, name: bytes) -> None:
        """See `EvictionPolicy`."""
        if name not in self._blocks:
            return
        tenant, num_bytes = self._blocks.pop(name)
        self._used[tenant] -= num_bytes
        self._changed.add(tenant)
        self._policies[tenant].forget(name)
        self._drop_if_empty(tenant)

    def use(self, names: Sequence[bytes], now: float = 0.0) -> None:
        """See `EvictionPolicy`; the names are of one tenant."""
        for name in names:
            if name in self._blocks:
                self._policies[self._blocks[name][0]].use(names, now)
                return

    def enqueue(
        self, rank: Rank, names: Sequence[bytes], now: float = 0.0, tenant: str = ""
    ) -> None:
        """See `EvictionPolicy`."""
        self.dequeue(rank, now)
        self._queued[rank] = tenant
        self._num_queued[tenant] = self._num_queued.get(tenant, 0) + 1
        self._of(tenant).enqueue(rank, names, now, tenant)

    def dequeue(self, rank: Rank, now: float = 0.0) -> None:
        """See `EvictionPolicy`."""
        tenant = self._queued.pop(rank, None)
        if tenant is not None:
            self._num_queued[tenant] -= 1
            self._policies[tenant].dequeue(rank, now)
            self._drop_if_empty(tenant)

    def choose(self, num_bytes: float, spared: Set[bytes], now: float) -> list[bytes]:
        """See `EvictionPolicy`."""
        order = self._by_level()
        asked: list[str] = []
        used_bytes, weights, level = -num_bytes, 0.0, 0.0
        tenant = next(order, None)
        while tenant is not None and (not asked or self._level(tenant) > level):
            asked.append(tenant)
            used_bytes += self._used[tenant]
            weights += self._weight(tenant)
            level = max(0.0, used_bytes / weights)
            tenant = next(order, None)
        chosen: list[bytes] = []
        for name in asked:
            surplus = self._used[name] - level * self._weight(name)
            num_bytes -= self._take(name, surplus, spared, now, chosen)
        while tenant is not None and num_bytes > 0:  # those above had what must not go
            asked.append(tenant)
            num_bytes -= self._take(tenant, num_bytes, spared, now, chosen)
            tenant = next(order, None)
        for name in [*asked, tenant or ""]:
            self._put_back(name)
        return chosen

    def _take(
        self,
        tenant: str,
        num_bytes: float,
        spared: Set[bytes],
        now: float,
        chosen: list[bytes],
    ) -> int:
        """Adds blocks of a tenant to `chosen`; returns their bytes."""
        names = self._policies[tenant].choose(num_bytes, spared, now)
        chosen += names
        return sum(self._blocks[name][1] for name in names)

    def _by_level(self) -> Iterator[str]:
        """Tenants with blocks, highest level first; they are taken out until put back."""
        for tenant in self._changed:
            self._put_back(tenant)
        self._changed.clear()
        seen: set[str] = set()
        while self._levels:
            level, tenant = heappop(self._levels)
            if tenant not in seen and self._used.get(tenant) and -level == self._level(tenant):
                seen.add(tenant)
                yield tenant

    def _put_back(self, tenant: str) -> None:
        if self._used.get(tenant):
            heappush(self._levels, (-self._level(tenant), tenant))

    def _level(self, tenant: str) -> float:
        """Bytes for a unit of weight."""
        return self._used[tenant] / self._weight(tenant)

    def _weight(self, tenant: str) -> float:
        return self._weights.get(tenant, 1.0)

    def _of(self, tenant: str) -> EvictionPolicy:
        if tenant not in self._policies:
            self._policies[tenant] = self._make_policy()
        return self._policies[tenant]

    def _drop_if_empty(self, tenant: str) -> None:
        """Whoever has no blocks and no jobs is forgotten, so that tenants do not add up."""
        if not self._used.get(tenant) and not self._num_queued.get(tenant):
            for known in (self._policies, self._used, self._num_queued):
                known.pop(tenant, None)
