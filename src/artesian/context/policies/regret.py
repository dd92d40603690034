"""Follows the policy whose evictions are missed least."""

from collections import OrderedDict
from collections.abc import Container, Sequence

from artesian.context.policies.base import EvictionPolicy, Rank

_WEIGHT = 1 / 128
"""Of the newest outcome in a running mean."""
_EXPLORE_EVERY = 32
_EXPLORE_WORSE_EVERY = 1024
"""One decision of so many is left to another expert, so that its regret becomes known: few if it is
known to be much worse."""
_MARGIN = 0.02
"""Another expert is followed when it is missed less by that much; so nothing flutters by chance."""
_MIN_GHOSTS = 64


class RegretChooser(EvictionPolicy):
    """Several experts know the same blocks; the one with the least regret decides.

    What an expert threw out, and the followed one would have kept, or the other way round, leaves a
    ghost: its name. If it is wanted again while the ghost lasts, that is regret; if the ghost grows
    old (as many others came after it as the tier has blocks), it was right. A block that all of
    them would have taken says nothing. Ghost lists are as in LeCaR and Ditto (SOSP '23); comparing
    rates, and only where experts differ, is ours.

    Attributes:
        regrets: per expert, the part of its evictions that were missed, 0 to 1.
    """

    def __init__(self, experts: Sequence[EvictionPolicy]) -> None:
        """Makes one for an empty tier.

        Args:
            experts: at least one; the first is followed at first. Their blocks must be the same.
        """
        if not experts:
            raise ValueError("a chooser needs at least one expert")
        self.regrets = [0.0] * len(experts)
        self._experts = tuple(experts)
        self._followed = 0
        self._num_followed = 0  # decisions since another expert had one
        self._next_other = 0
        self._going: dict[bytes, int | None] = {}  # chosen by that expert alone, or by all
        self._ghosts: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._experts[0])

    def __contains__(self, name: object) -> bool:
        return name in self._experts[0]

    @property
    def followed(self) -> EvictionPolicy:
        """The expert that decides now."""
        return self._experts[self._followed]

    def add(self, name: bytes, num_bytes: int, now: float = 0.0, tenant: str = "") -> None:
        """See `EvictionPolicy`."""
        self._ghosts.pop(name, None)
        for expert in self._experts:
            expert.add(name, num_bytes, now, tenant)

    def forget(self, name: bytes) -> None:
        """See `EvictionPolicy`."""
        chooser = self._going.pop(name, None)
        if chooser is not None and name in self:
            self._ghosts[name] = chooser
            if len(self._ghosts) > max(len(self), _MIN_GHOSTS):
                self._learn(self._ghosts.popitem(last=False)[1], 0.0)
        for expert in self._experts:
            expert.forget(name)

    def use(self, names: Sequence[bytes], now: float = 0.0) -> None:
        """See `EvictionPolicy`."""
        if self._ghosts:
            for name in names:
                chooser = self._ghosts.pop(name, None)
                if chooser is not None:
                    self._learn(chooser, 1.0)
        for expert in self._experts:
            expert.use(names, now)

    def enqueue(
        self, rank: Rank, names: Sequence[bytes], now: float = 0.0, tenant: str = ""
    ) -> None:
        """See `EvictionPolicy`."""
        for expert in self._experts:
            expert.enqueue(rank, names, now, tenant)

    def dequeue(self, rank: Rank, now: float = 0.0) -> None:
        """See `EvictionPolicy`."""
        for expert in self._experts:
            expert.dequeue(rank, now)

    def choose(self, num_bytes: float, spared: Container[bytes], now: float) -> list[bytes]:
        """See `EvictionPolicy`."""
        decides = self._decides()
        chosen = self._experts[decides].choose(num_bytes, spared, now)
        shared = set(chosen)
        for number, expert in enumerate(self._experts):
            if number != decides:
                shared.intersection_update(expert.choose(num_bytes, spared, now))
        for name in chosen:
            self._going[name] = None if name in shared else decides
        return chosen

    def _decides(self) -> int:
        """The followed expert, or now and then another one."""
        others = [i for i in range(len(self._experts)) if i != self._followed]
        if not others:
            return self._followed
        other = others[self._next_other % len(others)]
        lead = max(0.0, self.regrets[other] - self.regrets[self._followed])
        self._num_followed += 1
        if self._num_followed < _EXPLORE_EVERY + lead * (_EXPLORE_WORSE_EVERY - _EXPLORE_EVERY):
            return self._followed
        self._num_followed = 0
        self._next_other += 1
        return other

    def _learn(self, expert: int, was_missed: float) -> None:
        self.regrets[expert] += _WEIGHT * (was_missed - self.regrets[expert])
        best = min(range(len(self.regrets)), key=self.regrets.__getitem__)
        if self.regrets[best] + _MARGIN < self.regrets[self._followed]:
            self._followed = best
