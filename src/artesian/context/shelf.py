"""A tier with the policy that says what leaves it."""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from artesian.context.base import Done, Tier
from artesian.context.misses import MissLog
from artesian.context.policies import EvictionPolicy, LeafFirstLru


@dataclass(slots=True)
class TierStats:
    """Counters of one tier that only grow."""

    num_saved_blocks: int = 0
    num_unsaved_blocks: int = 0
    """Blocks that were not saved: the tier was full, or the system refused."""
    num_loaded_blocks: int = 0
    num_failed_loads: int = 0
    """Blocks that were there and could not be had: damaged, taken away, or the system refused."""
    num_corrupt_blocks: int = 0
    num_evicted_blocks: int = 0
    load_s: float = 0.0
    """From asking for blocks to their arrival; those that arrive together count once."""


class Shelf:
    """Knows the blocks of a tier, this process's and others', and takes away what must go."""

    def __init__(self, tier: Tier, misses: MissLog) -> None:
        self.tier = tier
        self.misses = misses
        self.stats = TierStats()
        self._order: EvictionPolicy = LeafFirstLru()
        self._removals: dict[int, bytes] = {}
        self.learn()

    def __contains__(self, name: bytes) -> bool:
        return name in self._order

    @property
    def is_busy(self) -> bool:
        """Whether blocks are being taken away."""
        return bool(self._removals)

    def learn(self) -> None:
        """Takes over what the tier knows, in the order in which it was saved."""
        for entry in sorted(self.tier.entries(), key=lambda entry: entry.saved_s):
            self._order.add(entry.name, entry.num_bytes)

    def use(self, names: Sequence[bytes]) -> None:
        """The blocks of a prefix, first one first, were wanted."""
        self._order.use(names)

    def add(self, name: bytes) -> None:
        """The block is there now."""
        self.misses.forget(name)
        self._order.add(name, self.tier.room_bytes)

    def forget(self, name: bytes, cause: str) -> None:
        """The block is not there any more."""
        self.misses.note([name], f"{cause} ({self.tier.label} tier)")
        self._order.forget(name)

    def make_room(self, num_coming: int, spared: Iterable[bytes] = ()) -> None:
        """Begins to take away what is in the way of so many blocks more; not `spared`."""
        num_coming -= len(self._removals)
        used_bytes = self.tier.used_bytes + num_coming * self.tier.room_bytes
        kept = [*spared, *self._removals.values()]
        for name in self._order.victims(used_bytes, self.tier.capacity_bytes, kept):
            self._removals[self.tier.remove(name)] = name
            self.misses.note([name], f"evicted to make room ({self.tier.label} tier)")

    def discard(self, names: Iterable[bytes]) -> None:
        """Begins to take blocks away, whether this process knows them or not."""
        removing = set(self._removals.values())
        for name in names:
            if name not in removing:
                self._removals[self.tier.remove(name)] = name
                self.misses.note([name], "deleted with its session")

    def is_removing(self, names: Set[bytes]) -> bool:
        """Whether any of these blocks is being taken away."""
        return not names.isdisjoint(self._removals.values())

    def end_removal(self, done: Done) -> bool:
        """Takes notice of a removal that has ended; False if `done` is none."""
        name = self._removals.pop(done.ticket, None)
        if name is None:
            return False
        self._order.forget(name)
        self.stats.num_evicted_blocks += done.outcome == "removed"
        return True
