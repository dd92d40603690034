"""Blocks that stay because somebody asked for it."""

import heapq
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from artesian.context.policies.base import EvictionPolicy, Rank


@dataclass(slots=True)
class _Pin:
    num_bytes: int
    tenant: str
    until_s: float


class Pins(EvictionPolicy):
    """Over another policy, which does not see the blocks that are pinned.

    Pins have a budget and a time: what is beyond the budget is refused, and what has expired is the
    other policy's again, as if it had been used then. A block that vanishes takes its pin along. So
    a pin cannot leak, and pins can never fill a tier.

    Attributes:
        budget_bytes: bound of `pinned_bytes`.
        pinned_bytes: what is pinned now, expired pins included until the next call that has a time.
    """

    def __init__(self, inner: EvictionPolicy, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.pinned_bytes = 0
        self._inner = inner
        self._sizes: dict[bytes, tuple[int, str]] = {}
        self._pins: dict[bytes, _Pin] = {}
        self._ends: list[tuple[float, int, bytes]] = []  # a heap; later blocks of a prefix first

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, name: object) -> bool:
        return name in self._sizes

    def is_pinned(self, name: bytes) -> bool:
        """Whether the block stays."""
        return name in self._pins

    def pin(self, names: Sequence[bytes], until_s: float, now: float) -> int:
        """Keeps the blocks of a prefix until then; of pinned ones the later time counts.

        Returns how many of the first ones are pinned now: it ends at a block that is not here, or
        that the budget has no room for.
        """
        self._expire(now)
        if until_s <= now:
            return 0
        for index, name in enumerate(names):
            pin = self._pins.get(name)
            if pin is None:
                num_bytes, tenant = self._sizes.get(name, (None, ""))
                if num_bytes is None or self.pinned_bytes + num_bytes > self.budget_bytes:
                    return index
                self._inner.forget(name)
                self.pinned_bytes += num_bytes
                pin = self._pins[name] = _Pin(num_bytes, tenant, now)
            if until_s > pin.until_s:
                pin.until_s = until_s
                heapq.heappush(self._ends, (until_s, -index, name))
        self._tidy()
        return len(names)

    def unpin(self, names: Sequence[bytes], now: float) -> None:
        """Gives blocks back before their time."""
        for name in reversed(names):
            if name in self._pins:
                self._give_back(name, now)

    def add(self, name: bytes, num_bytes: int, now: float = 0.0, tenant: str = "") -> None:
        """See `EvictionPolicy`."""
        self._expire(now)
        self._sizes[name] = (num_bytes, tenant)
        pin = self._pins.get(name)
        if pin is None:
            self._inner.add(name, num_bytes, now, tenant)
            return
        self.pinned_bytes += num_bytes - pin.num_bytes
        pin.num_bytes = num_bytes
        if self.pinned_bytes > self.budget_bytes:
            self._give_back(name, now)

    def forget(self, name: bytes) -> None:
        """See `EvictionPolicy`."""
        self._sizes.pop(name, None)
        pin = self._pins.pop(name, None)
        if pin is None:
            self._inner.forget(name)
        else:
            self.pinned_bytes -= pin.num_bytes

    def use(self, names: Sequence[bytes], now: float = 0.0) -> None:
        """See `EvictionPolicy`."""
        self._inner.use(names, now)

    def enqueue(
        self, rank: Rank, names: Sequence[bytes], now: float = 0.0, tenant: str = ""
    ) -> None:
        """See `EvictionPolicy`."""
        self._inner.enqueue(rank, names, now, tenant)

    def dequeue(self, rank: Rank, now: float = 0.0) -> None:
        """See `EvictionPolicy`."""
        self._inner.dequeue(rank, now)

    def choose(self, num_bytes: float, spared: Set[bytes], now: float) -> list[bytes]:
        """See `EvictionPolicy`."""
        self._expire(now)
        return self._inner.choose(num_bytes, spared, now)

    def expired(self, spared: Set[bytes], now: float) -> list[bytes]:
        """See `EvictionPolicy`."""
        self._expire(now)
        return self._inner.expired(spared, now)

    def victims(
        self,
        used_bytes: float,
        capacity_bytes: float,
        spared: Iterable[bytes] = (),
        now: float = 0.0,
    ) -> list[bytes]:
        """See `EvictionPolicy`; the other policy may have marks of its own."""
        self._expire(now)
        return self._inner.victims(used_bytes, capacity_bytes, spared, now)

    def _expire(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            until_s, _, name = heapq.heappop(self._ends)
            pin = self._pins.get(name)
            if pin is not None and pin.until_s == until_s:
                self._give_back(name, now)

    def _give_back(self, name: bytes, now: float) -> None:
        pin = self._pins.pop(name)
        self.pinned_bytes -= pin.num_bytes
        self._inner.add(name, pin.num_bytes, now, pin.tenant)

    def _tidy(self) -> None:
        """Drops the ends of pins that are gone or last longer now, when they are the most."""
        if len(self._ends) > 2 * len(self._pins) + 64:
            self._ends = [
                end
                for end in self._ends
                if end[2] in self._pins and self._pins[end[2]].until_s == end[0]
            ]
            heapq.heapify(self._ends)
