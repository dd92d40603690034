"""The context cache: blocks leave the arena for a tier when they are full, and come back when a
prompt begins like them.

Everything happens beside the engine's steps. A block that is being saved is held, and so are those
before it, so that the prefix cache goes on evicting leaves first. A load brings blocks into the
prefix cache under their names; the sequence that wanted them then finds them there like any others.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from artesian.context.base import Done, Tier
from artesian.context.eviction import LeafFirstLru
from artesian.context.gate import LoadGate
from artesian.kvcache.prefix_cache import PrefixCache

_logger = logging.getLogger(__name__)

_MIN_PATIENCE_S = 0.5
"""Blocks are waited for so long, or twice as long as computing them would take."""
_QUIET_S = 30.0
"""Between two messages about a tier that fails."""


@dataclass(slots=True)
class ContextStats:
    """Counters that only grow."""

    num_saved_blocks: int = 0
    num_unsaved_blocks: int = 0
    """Blocks that were not saved: the tier was full, or the system refused."""
    num_loaded_blocks: int = 0
    num_failed_loads: int = 0
    """Blocks that were there and could not be had: damaged, taken away, or the system refused."""
    num_corrupt_blocks: int = 0
    num_evicted_blocks: int = 0
    load_s: float = 0.0


@dataclass(slots=True, eq=False)
class Onboarding:
    """Blocks on their way into the prefix cache.

    Attributes:
        held: the blocks before them.
        is_done: they are there, or as many of them as could be had.
        is_late: they are not worth waiting for any more.
        num_loaded: how many.
    """

    names: list[bytes]
    held: list[int]
    blocks: list[int]
    started_s: float
    num_open: int
    is_good: npt.NDArray[np.bool_]
    is_done: bool = False
    is_late: bool = False
    num_loaded: int = 0


@dataclass(slots=True, eq=False)
class _Saving:
    held: list[int]
    num_open: int = 0


@dataclass(slots=True)
class _Open:
    """Tickets of what is under way."""

    saves: dict[int, tuple[bytes, _Saving]] = field(default_factory=dict)
    loads: dict[int, tuple[int, Onboarding]] = field(default_factory=dict)
    removals: dict[int, bytes] = field(default_factory=dict)
    saving: set[bytes] = field(default_factory=set)
    loading: dict[bytes, Onboarding] = field(default_factory=dict)


class ContextCache:
    """Moves blocks between a `PrefixCache` and a `Tier`. The engine's thread owns it."""

    def __init__(
        self,
        prefix_cache: PrefixCache,
        tier: Tier,
        block_size_tokens: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tier = tier
        self.stats = ContextStats()
        self.gate = LoadGate()
        self._prefix_cache = prefix_cache
        self._block_size_tokens = block_size_tokens
        self._clock = clock
        self._order = LeafFirstLru()
        self._open = _Open()
        self._next_message_s = 0.0
        self._learn()

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._open.saves or self._open.loads or self._open.removals)

    def save(self, names: Sequence[bytes], blocks: Sequence[int], first: int) -> int:
        """Begins to save blocks `first`, `first + 1`, ... of a sequence, which holds them all.

        Returns how many of them are saved, or will be; the next ones may be tried again later.
        """
        saving = _Saving([])
        index = first
        if index < len(blocks):
            self._make_room(len(blocks) - index)
        while index < len(blocks):
            name = names[index]
            if name not in self._order and name not in self._open.saving:
                ticket = self.tier.save(name, blocks[index])
                if ticket is None:  # those behind it are of no use without it
                    break
                self._open.saves[ticket] = (name, saving)
                self._open.saving.add(name)
                saving.num_open += 1
                saving.held = list(blocks[: index + 1])
            index += 1
        self._prefix_cache.acquire(saving.held)
        return index - first

    def onboard(
        self, names: Sequence[bytes], hits: Sequence[int], num_reserved: int = 0
    ) -> Onboarding | None:
        """Begins to load what the tier has of `names` behind the cached blocks `hits`.

        None when there is nothing, no room but for `num_reserved` blocks, or computing it is
        quicker. When the first of them is on its way already, that is the answer.
        """
        self._order.use(names)  # what memory has is wanted as well: a restart would need it
        missing = list(names[len(hits) :])
        if not missing:
            return None
        if missing[0] in self._open.loading:
            return self._open.loading[missing[0]]
        count = self.tier.find(missing)
        room = self._prefix_cache.num_available_blocks - self._prefix_cache.num_idle(hits)
        count = min(count, room - num_reserved)
        if count <= 0 or not self.gate.should_load(count, self._block_size_tokens):
            return None
        return self._load(missing[:count], list(hits))

    def poll(self) -> None:
        """Takes notice of what has ended; makes room in the tier."""
        ended = self.tier.poll()
        for done in ended:
            if done.ticket in self._open.saves:
                self._end_save(done)
            elif done.ticket in self._open.loads:
                self._end_load(done)
            elif done.ticket in self._open.removals:
                self._order.forget(self._open.removals.pop(done.ticket))
                self.stats.num_evicted_blocks += done.outcome == "removed"
        for onboarding in set(self._open.loading.values()):
            self._look_at_clock(onboarding)
        if error := self.tier.take_error():
            self._report(error)
        if any(done.outcome == "full" for done in ended):
            self._learn()  # others may have filled it
            self._make_room(0)

    def wait(self, timeout_s: float) -> None:
        """Waits until something has ended."""
        self.tier.wait(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Waits for saves, but no longer than that."""
        until = self._clock() + timeout_s
        self.poll()
        while self._open.saves and self._clock() < until:
            self.tier.wait(until - self._clock())
            self.poll()

    def _load(self, names: list[bytes], hits: list[int]) -> Onboarding:
        self._prefix_cache.acquire(hits)
        blocks = [self._prefix_cache.allocate() for _ in names]
        is_good = np.zeros(len(names), np.bool_)
        onboarding = Onboarding(names, hits, blocks, self._clock(), len(names), is_good)
        for index, (name, block) in enumerate(zip(names, blocks, strict=True)):
            self._open.loads[self.tier.load(name, block)] = (index, onboarding)
            self._open.loading[name] = onboarding
        return onboarding

    def _end_save(self, done: Done) -> None:
        name, saving = self._open.saves.pop(done.ticket)
        self._open.saving.remove(name)
        if done.outcome in ("saved", "known"):
            self.stats.num_saved_blocks += done.outcome == "saved"
            self._order.add(name, self.tier.room_bytes)
        else:
            self.stats.num_unsaved_blocks += 1
        saving.num_open -= 1
        if saving.num_open == 0:
            self._prefix_cache.release(saving.held)

    def _end_load(self, done: Done) -> None:
        index, onboarding = self._open.loads.pop(done.ticket)
        onboarding.is_good[index] = done.outcome == "hit"
        if done.outcome != "hit":
            self.stats.num_failed_loads += 1
            self.stats.num_corrupt_blocks += done.outcome == "corrupt"
            if done.outcome != "failed":
                self._order.forget(onboarding.names[index])
        onboarding.num_open -= 1
        if onboarding.num_open == 0:
            self._finish(onboarding)

    def _finish(self, onboarding: Onboarding) -> None:
        """Names what has come whole; what lies behind a gap is of no use."""
        is_good = onboarding.is_good
        count = len(is_good) if is_good.all() else int(is_good.argmin())
        named = [
            self._prefix_cache.name(block, name)
            for block, name in zip(onboarding.blocks[:count], onboarding.names, strict=False)
        ]
        self._prefix_cache.release(onboarding.blocks[count:])
        self._prefix_cache.release([*onboarding.held, *named])
        for name in onboarding.names:
            self._open.loading.pop(name, None)
        onboarding.num_loaded = count
        onboarding.is_done = True
        self.stats.num_loaded_blocks += count
        seconds = self._clock() - onboarding.started_s
        self.stats.load_s += seconds
        self.gate.observe_load(len(is_good), seconds)

    def _look_at_clock(self, onboarding: Onboarding) -> None:
        """A disk that hangs holds up nobody, and is known to be slow from then on."""
        waited_s = self._clock() - onboarding.started_s
        num_blocks = len(onboarding.names)
        computing_s = self.gate.prefill_s(num_blocks * self._block_size_tokens)
        if not onboarding.is_late and waited_s > max(_MIN_PATIENCE_S, 2 * computing_s):
            onboarding.is_late = True
            self.gate.observe_load(num_blocks, waited_s)

    def _learn(self) -> None:
        """Takes over what the tier knows, in the order in which it was saved."""
        for entry in sorted(self.tier.entries(), key=lambda entry: entry.saved_s):
            self._order.add(entry.name, entry.num_bytes)

    def _make_room(self, num_blocks: int) -> None:
        """Begins to take away what is in the way of so many blocks more."""
        coming = num_blocks + len(self._open.saves) - len(self._open.removals)
        used_bytes = self.tier.used_bytes + coming * self.tier.room_bytes
        spared = [*self._open.loading, *self._open.removals.values()]
        for name in self._order.victims(used_bytes, self.tier.capacity_bytes, spared):
            self._open.removals[self.tier.remove(name)] = name

    def _report(self, error: str) -> None:
        """A tier that fails costs hits and nothing else; so now and then a line says so."""
        now = self._clock()
        if now >= self._next_message_s:
            self._next_message_s = now + _QUIET_S
            _logger.warning("the %s tier of the context cache fails: %s", self.tier.label, error)
