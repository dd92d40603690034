"""A tier with the policy that says what leaves it."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

from artesian.context.base import Done, Tier
from artesian.context.cost import PrefillCost
from artesian.context.gate import LoadGate
from artesian.context.misses import MissLog
from artesian.context.policies import Rank
from artesian.context.policies.base import HIGH_WATER
from artesian.context.retention import Retention

_ABOUT_S = 10.0
"""Uses within so long count as at the same time: `crates/tier` writes them down no finer."""

Reason = Literal["capacity", "ttl", "deleted", "corrupt"]
"""Why a block left a tier: to make room, for its age, with its session, or because it did not
verify."""


@dataclass(slots=True)
class TierStats:
    """Counters of one tier that only grow."""

    num_saved_blocks: int = 0
    num_unsaved_blocks: int = 0
    """Blocks that were not saved: the tier was full, or the system refused."""
    num_loaded_blocks: int = 0
    num_failed_loads: int = 0
    """Blocks that were there and could not be had: damaged, taken away, or the system refused."""
    num_evicted: Counter[Reason] = field(default_factory=Counter)
    save_s: float = 0.0
    """Of the threads that save."""
    load_s: float = 0.0
    """From the turn of blocks to their arrival; those that arrive together count once."""

    @property
    def num_evicted_blocks(self) -> int:
        """For whatever reason."""
        return self.num_evicted.total()


class Shelf:
    """Knows the blocks of a tier, this process's and others', and takes away what must go."""

    def __init__(
        self,
        tier: Tier,
        misses: MissLog,
        prefill: PrefillCost | None = None,
        below: "Shelf | None" = None,
        retention: Retention | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`below`: where blocks go that must make room here, and that are not there yet; None if
        they just go."""
        self.tier = tier
        self.misses = misses
        self.stats = TierStats()
        self.gate = LoadGate(prefill)
        self.below = below
        self._order = (retention or Retention()).policy(tier.capacity_bytes)
        self._clock = clock
        self._strangers: dict[bytes, int] = {}  # blocks whose tenant is not known, with sizes
        self._used_s: dict[bytes, float] = {}  # as the tier told it last
        self._removals: dict[int, tuple[bytes, Reason]] = {}
        self._moves: dict[int, bytes] = {}  # by tickets of the tier below
        self.learn()

    def __contains__(self, name: bytes) -> bool:
        return name in self._order

    @property
    def is_busy(self) -> bool:
        """Whether blocks are being taken away."""
        return bool(self._removals or self._moves)

    @property
    def moving(self) -> Set[bytes]:
        """Blocks on their way to the tier below."""
        return set(self._moves.values())

    def is_crowded(self, num_coming: int) -> bool:
        """Whether so many blocks more would leave less room than there should be."""
        used_bytes = self.tier.used_bytes + num_coming * self.tier.room_bytes
        return used_bytes > HIGH_WATER * self.tier.capacity_bytes

    def learn(self) -> None:
        """Takes over what the tier knows: other processes' blocks, and when they used which.

        Of what was used at about the same time the first ones count as used last: blocks of a
        prefix come in order, and its end shall go first.
        """
        now = self._clock()
        entries = self.tier.entries()
        for entry in sorted(entries, key=lambda e: (e.saved_s // _ABOUT_S, -e.saved_s)):
            if entry.name not in self._order:
                self._stranger(entry.name, entry.num_bytes, now)
            elif entry.saved_s > self._used_s.get(entry.name, math.inf):
                self._order.use([entry.name], now)
        self._used_s = {entry.name: entry.saved_s for entry in entries}

    def use(self, names: Sequence[bytes], tenant: str = "") -> None:
        """The blocks of a prefix, first one first, were wanted."""
        self._adopt(names, tenant)
        self._order.use(names, self._clock())

    def enqueue(self, rank: Rank, names: Sequence[bytes], tenant: str = "") -> None:
        """A job that would use these blocks waits for its turn; lower ranks run first."""
        self._adopt(names, tenant)
        self._order.enqueue(rank, names, self._clock(), tenant)

    def dequeue(self, rank: Rank) -> None:
        """The job runs, or was given up."""
        self._order.dequeue(rank, self._clock())

    def pin(self, names: Sequence[bytes], seconds: float) -> int:
        """The blocks of a prefix stay for so long; returns how many of the first ones do: it ends
        at one that is not here or that the budget has no room for."""
        now = self._clock()
        for name in names:
            if name not in self._order and self.tier.find([name]):  # another server saved it
                self._stranger(name, self.tier.room_bytes, now)
        return self._order.pin(names, now + seconds, now)

    def unpin(self, names: Sequence[bytes]) -> None:
        """Blocks go like all others."""
        self._order.unpin(names, self._clock())

    def count_pinned(self, names: Iterable[bytes]) -> int:
        """How many of these blocks are pinned."""
        return sum(self._order.is_pinned(name) for name in names)

    @property
    def pinned_bytes(self) -> int:
        """What is pinned."""
        return self._order.pinned_bytes

    def add(self, name: bytes, tenant: str = "") -> None:
        """The block is there now."""
        self.misses.forget(name)
        self._order.add(name, self.tier.room_bytes, self._clock(), tenant)

    def end_save(self, name: bytes, done: Done, tenant: str = "") -> None:
        """A save has ended."""
        self.stats.save_s += done.took_s
        if done.outcome in ("saved", "known"):
            self.stats.num_saved_blocks += done.outcome == "saved"
            self.add(name, tenant)
        else:
            self.stats.num_unsaved_blocks += 1
            self.misses.note([name], f"not saved: the {self.tier.label} tier was full or failed")

    def lose(self, name: bytes, cause: str, is_corrupt: bool) -> None:
        """The block is not there any more, as was found when it was loaded."""
        self.misses.note([name], f"{cause} ({self.tier.label} tier)")
        self._forget(name)
        if is_corrupt:
            self.stats.num_evicted["corrupt"] += 1

    def make_room(
        self, num_coming: int, spared: Iterable[bytes] = (), num_refused: int = 0
    ) -> None:
        """Begins to take away what is in the way of so many blocks more; not `spared`.

        Args:
            num_refused: so many blocks found no room, whatever the bound says.
        """
        num_coming -= len(self._removals) + len(self._moves)
        used_bytes = self.tier.used_bytes + num_coming * self.tier.room_bytes
        kept = {*spared, *(name for name, _ in self._removals.values()), *self._moves.values()}
        now = self._clock()
        expired = self._order.expired(kept, now)
        for name in expired:  # not to the tier below: nobody wants it
            self._remove(name, "ttl")
            self.misses.note([name], f"not used for long ({self.tier.label} tier)")
        used_bytes -= len(expired) * self.tier.room_bytes
        kept.update(expired)
        victims = self._order.victims(used_bytes, self.tier.capacity_bytes, kept, now)
        if num_refused and not victims and not self.is_busy:
            victims = self._order.choose(num_refused * self.tier.room_bytes, kept, now)
        if victims and self.below is not None:
            self.below.make_room(len(victims), kept)
        for name in victims:
            if not self._evict(name):
                break

    def discard(self, names: Iterable[bytes]) -> None:
        """Begins to take blocks away, whether this process knows them or not."""
        removing = {name for name, _ in self._removals.values()}
        for name in names:
            if name not in removing:
                self._remove(name, "deleted")
                self.misses.note([name], "deleted with its session")

    def is_removing(self, names: Set[bytes]) -> bool:
        """Whether any of these blocks is being taken away."""
        return any(name in names for name, _ in self._removals.values())

    def end_removal(self, done: Done) -> bool:
        """Takes notice of a removal that has ended; False if `done` is none."""
        if done.ticket not in self._removals:
            return False
        name, reason = self._removals.pop(done.ticket)
        self._forget(name)
        self.stats.num_evicted[reason] += done.outcome == "removed"
        return True

    def end_move(self, done: Done) -> bool:
        """Takes notice of a block that the tier below has, or could not take; False if `done` of
        that tier is no such thing."""
        name = self._moves.pop(done.ticket, None)
        if name is None or self.below is None:
            return False
        self.below.end_save(name, done)
        self._remove(name, "capacity")
        return True

    def _adopt(self, names: Sequence[bytes], tenant: str) -> None:
        """Only its tenant can know the name of a block."""
        if self._strangers:
            now = self._clock()
            for name in names:
                if name in self._strangers:
                    num_bytes = self._strangers.pop(name)
                    self._order.forget(name)
                    self._order.add(name, num_bytes, now, tenant)

    def _evict(self, name: bytes) -> bool:
        """Whether it is on its way; False when the tier below is behind with saving."""
        if self.below is not None and self.below.tier.find([name]) == 0:
            ticket = self.below.tier.copy(name, self.tier)
            if ticket is not None:
                self._moves[ticket] = name
            return ticket is not None
        self._remove(name, "capacity")
        self.misses.note([name], f"evicted to make room ({self.tier.label} tier)")
        return True

    def _stranger(self, name: bytes, num_bytes: int, now: float) -> None:
        """A block that this process did not save."""
        self._strangers[name] = num_bytes
        self._order.add(name, num_bytes, now)

    def _forget(self, name: bytes) -> None:
        self._order.forget(name)
        self._strangers.pop(name, None)

    def _remove(self, name: bytes, reason: Reason) -> None:
        self._removals[self.tier.remove(name)] = (name, reason)
