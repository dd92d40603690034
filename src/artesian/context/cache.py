"""The context cache: blocks leave the arena for a tier when they are full, and come back when a
prompt begins like them.

Everything happens beside the engine's steps. A load brings blocks into the prefix cache under their
names; the sequence that wanted them then finds them there like any others.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from artesian.context.base import Tier
from artesian.context.gate import LoadGate
from artesian.context.loader import Loader, Onboarding
from artesian.context.misses import MissLog
from artesian.context.saver import Saver
from artesian.context.shelf import Shelf, TierStats
from artesian.kvcache.prefix_cache import PrefixCache

_logger = logging.getLogger(__name__)

_QUIET_S = 30.0
"""Between two messages about a tier that fails."""


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
        self.gate = LoadGate()
        self.misses = MissLog()
        self._prefix_cache = prefix_cache
        self._block_size_tokens = block_size_tokens
        self._clock = clock
        self._shelf = Shelf(tier, self.misses)
        self._saver = Saver(prefix_cache, self._shelf)
        self._loader = Loader(prefix_cache, self._shelf, self.gate, block_size_tokens, clock)
        self._discarding: set[bytes] = set()
        self._next_message_s = 0.0

    @property
    def stats(self) -> TierStats:
        """Counters of the tier."""
        return self._shelf.stats

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._saver.num_open or self._loader.num_open or self._shelf.is_busy)

    def save(self, names: Sequence[bytes], blocks: Sequence[int], first: int) -> int:
        """Begins to save blocks `first`, `first + 1`, ... of a sequence, which holds them all.

        Returns how many of them are saved, or will be; the next ones may be tried again later.
        """
        if first < len(blocks):
            self._make_room(len(blocks) - first)
        return self._saver.save(names, blocks, first)

    def onboard(
        self, names: Sequence[bytes], hits: Sequence[int], num_reserved: int = 0
    ) -> Onboarding | None:
        """Begins to load what the tier has of `names` behind the cached blocks `hits`.

        None when there is nothing, no room but for `num_reserved` blocks, or computing it is
        quicker. When the first of them is on its way already, that is the answer.
        """
        self._shelf.use(names)  # what memory has is wanted as well: a restart would need it
        missing = list(names[len(hits) :])
        if not missing:
            return None
        if onboarding := self._loader.find(missing[0]):
            return onboarding
        count = self.tier.find(missing)
        room = self._prefix_cache.num_available_blocks - self._prefix_cache.num_idle(hits)
        count = min(count, room - num_reserved)
        first = len(hits) * self._block_size_tokens
        if count <= 0 or not self.gate.should_load(count, self._block_size_tokens, first):
            return None
        return self._loader.load(missing[:count], hits)

    def discard(self, names: Iterable[bytes]) -> None:
        """Begins to take blocks out of the tier, for all servers."""
        self._discarding.update(names)
        self._discard()

    def is_discarding(self, names: Iterable[bytes]) -> bool:
        """Whether any of these blocks is still on its way out of the tier, or into memory."""
        wanted = set(names)
        return not (
            wanted.isdisjoint(self._discarding)
            and wanted.isdisjoint(self._loader.names)
            and not self._shelf.is_removing(wanted)
        )

    def find(self, names: Sequence[bytes]) -> dict[str, int]:
        """How many of the first `names` could be loaded, and from which tier."""
        return {self.tier.label: self.tier.find(names)}

    def count(self, names: Iterable[bytes]) -> dict[str, int]:
        """How many of these blocks each tier has, as far as this process knows."""
        return {self.tier.label: sum(name in self._shelf for name in names)}

    def poll(self) -> None:
        """Takes notice of what has ended; makes room in the tier."""
        ended = self.tier.poll()
        for done in ended:
            _ = self._saver.end(done) or self._loader.end(done) or self._shelf.end_removal(done)
        self._loader.look_at_clock()
        self._discard()
        if error := self.tier.take_error():
            self._report(error)
        if any(done.outcome == "full" for done in ended):
            self._shelf.learn()  # others may have filled it
            self._make_room(0)

    def wait(self, timeout_s: float) -> None:
        """Waits until something has ended."""
        self.tier.wait(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Waits for saves, and for what makes room for them, but no longer than that."""
        until = self._clock() + timeout_s
        self.poll()
        while (self._saver.num_open or self._shelf.is_busy) and self._clock() < until:
            self.tier.wait(until - self._clock())
            self.poll()

    def _discard(self) -> None:
        """A removal would overtake a save: so what is being saved goes once it is there."""
        if self._discarding:
            ready = self._discarding - self._saver.names
            self._discarding -= ready
            self._shelf.discard(ready)

    def _make_room(self, num_blocks: int) -> None:
        """Begins to take away what is in the way of so many blocks more."""
        self._shelf.make_room(num_blocks + self._saver.num_open, self._loader.names)

    def _report(self, error: str) -> None:
        """A tier that fails costs hits and nothing else; so now and then a line says so."""
        now = self._clock()
        if now >= self._next_message_s:
            self._next_message_s = now + _QUIET_S
            _logger.warning("the %s tier of the context cache fails: %s", self.tier.label, error)
