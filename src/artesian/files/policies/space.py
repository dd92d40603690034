"""Room goes where it saves most time at the origin."""

from collections.abc import Mapping
from typing import NamedTuple

_BETTER = 1.2
_LONGEST_STRIDE = 8


class Demand(NamedTuple):
    """What a unit would make of a little more or less room.

    Attributes:
        gain, loss: seconds at the origin that it would save more, or less, in a second.
        used_bytes: what it takes; floor_bytes: what it has in any case.
        most_bytes: beyond, more room is of no use; is_idle: nobody reads it.
    """

    gain: float
    loss: float
    used_bytes: int
    floor_bytes: int
    most_bytes: float
    is_idle: bool = False


class SpaceSharing:
    """Shares of all units, together the capacity. Every so often a step goes from where it is
    missed least to where it saves most.

    CacheLib moves slabs between classes in the same manner. Steps grow while they go the same way,
    which is ours: a hundredth at a time would take longer than many jobs.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.shares: dict[int, int] = {}
        self._last: tuple[int, int] | None = None
        self._stride = 1

    @property
    def step_bytes(self) -> int:
        """A hundredth of the capacity, or 64 MiB if that is more and no more than a twentieth."""
        return max(self.capacity_bytes // 100, min(64 << 20, self.capacity_bytes // 20), 1)

    def begin(self, unit: int, num_bytes: int, giver: int) -> None:
        """A unit begins, with the room that its blocks take; `giver` had that so far."""
        if unit not in self.shares:
            given = max(0, min(num_bytes, self.shares.get(giver, self.capacity_bytes)))
            self.shares[unit] = given
            if giver in self.shares:
                self.shares[giver] -= given

    def end(self, unit: int, heir: int) -> None:
        """A unit is no more."""
        given = self.shares.pop(unit, 0)
        self.shares[heir] = self.shares.get(heir, 0) + given

    def resize(self, capacity_bytes: int) -> None:
        """All shares shrink or grow alike."""
        old = max(1, sum(self.shares.values()))
        self.capacity_bytes = capacity_bytes
        self.shares = {u: s * capacity_bytes // old for u, s in self.shares.items()}

    def step(self, demands: Mapping[int, Demand]) -> tuple[int, int] | None:
        """Moves a step, if that is worth while; who gave and who got."""
        takers = {
            u: d
            for u, d in demands.items()
            if d.gain > 0 and not d.is_idle and self.shares.get(u, 0) < d.most_bytes
        }
        if not takers:
            return None
        taker = max(takers, key=lambda unit: takers[unit].gain)
        givers = {
            u: 0.0 if d.is_idle or self.shares[u] > d.most_bytes else d.loss
            for u, d in demands.items()
            if u != taker and self.shares.get(u, 0) > (0 if d.is_idle else d.floor_bytes)
        }
        if not givers:
            return None
        # Of those who miss it alike the one that has most to spare.
        giver = min(givers, key=lambda u: (givers[u], -(self.shares[u] - demands[u].used_bytes)))
        if demands[taker].gain <= _BETTER * givers[giver]:
            self._last, self._stride = None, 1
            return None
        self._stride = min(self._stride * 2, _LONGEST_STRIDE) if self._last else 1
        floor = 0 if demands[giver].is_idle else demands[giver].floor_bytes
        wanted = demands[taker].most_bytes - self.shares[taker]
        moved = int(min(self.step_bytes * self._stride, self.shares[giver] - floor, wanted))
        self.shares[giver] -= moved
        self.shares[taker] += moved
        self._last = (giver, taker)
        return self._last
