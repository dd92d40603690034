"""Follows the policy whose evictions are missed least."""

from collections import OrderedDict
from collections.abc import Sequence, Set

from artesian.context.policies.base import EvictionPolicy, Rank

_MIN_MEAN, _MAX_MEAN = 128, 1024
"""Bounds of the outcomes that a running mean is over: as many as the tier has blocks."""
_EXPLORE_EVERY = 16
_EXPLORE_WORSE_EVERY = 1024
"""In one decision of so many, another expert has a say, so that its regret becomes known: rarely if
it is known to be much worse."""
_EXPLORE_SHARE = 1 / 8
"""Of what goes then."""
_MEMORY = 4
"""Ghosts, by blocks of the tier: queues are longer than the tier."""
_MARGIN = 0.05
"""Another expert is followed when its regret is less by that much; chance alone changes nothing."""
_MIN_GHOSTS = 64


class RegretChooser(EvictionPolicy):
    """Several experts know the same blocks; the one with the least regret decides.

    What an expert threw out, and the followed one would have kept, or the other way round, leaves a
    ghost: its name. If it is wanted again at once, that is a regret of 1; the later it is, the
    less, and 0 if four times as many others were evicted after it as the tier has blocks. A block
    that all of them would have taken says nothing. Another expert is followed when it has less
    regret over as many outcomes as the tier has blocks. Ghost lists are as in LeCaR and Ditto
    (SOSP '23); comparing means, and only where experts differ, is ours.

    Attributes:
        regrets: per expert, the mean of its latest evictions, 0 to 1.
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
        self._ghosts: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # who, after how many
        self._num_evicted = 0
        self._num_outcomes = [0] * len(experts)

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
            self._num_evicted += 1
            self._ghosts[name] = (chooser, self._num_evicted)
            oldest = self._num_evicted - self._memory
            while self._ghosts and next(iter(self._ghosts.values()))[1] <= oldest:
                self._learn(self._ghosts.popitem(last=False)[1][0], 0.0)
        for expert in self._experts:
            expert.forget(name)

    def use(self, names: Sequence[bytes], now: float = 0.0) -> None:
        """See `EvictionPolicy`."""
        if self._ghosts:
            for name in names:
                ghost = self._ghosts.pop(name, None)
                if ghost is not None:
                    age = self._num_evicted - ghost[1]
                    self._learn(ghost[0], max(0.0, 1 - age / self._memory))
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

    def choose(self, num_bytes: float, spared: Set[bytes], now: float) -> list[bytes]:
        """See `EvictionPolicy`."""
        other = self._explores()
        chosen: list[bytes] = []
        if other is not None:
            chosen = self._take(other, num_bytes * _EXPLORE_SHARE, spared, now)
            num_bytes *= 1 - _EXPLORE_SHARE
            spared = spared | frozenset(chosen)
        return chosen + self._take(self._followed, num_bytes, spared, now)

    def _take(self, decides: int, num_bytes: float, spared: Set[bytes], now: float) -> list[bytes]:
        """What one expert chooses, after a note on who would have chosen otherwise."""
        chosen = self._experts[decides].choose(num_bytes, spared, now)
        shared = set(chosen)
        for number, expert in enumerate(self._experts):
            if number != decides:
                shared.intersection_update(expert.choose(num_bytes, spared, now))
        for name in chosen:
            self._going[name] = None if name in shared else decides
        return chosen

    def _explores(self) -> int | None:
        """Now and then an expert that is not followed."""
        others = [i for i in range(len(self._experts)) if i != self._followed]
        if not others:
            return None
        other = others[self._next_other % len(others)]
        lead = max(0.0, self.regrets[other] - self.regrets[self._followed])
        self._num_followed += 1
        if self._num_followed < _EXPLORE_EVERY + lead * (_EXPLORE_WORSE_EVERY - _EXPLORE_EVERY):
            return None
        self._num_followed = 0
        self._next_other += 1
        return other

    @property
    def _memory(self) -> int:
        return max(_MEMORY * len(self), _MIN_GHOSTS)

    def _learn(self, expert: int, regret: float) -> None:
        most = min(max(len(self), _MIN_MEAN), _MAX_MEAN)
        self._num_outcomes[expert] += 1
        num_outcomes = min(self._num_outcomes[expert], most)
        self.regrets[expert] += (regret - self.regrets[expert]) / num_outcomes
        known = [i for i, num in enumerate(self._num_outcomes) if num >= most // 4]
        if self._followed in known:
            best = min(known, key=self.regrets.__getitem__)
            if self.regrets[best] + _MARGIN < self.regrets[self._followed]:
                self._followed = best
