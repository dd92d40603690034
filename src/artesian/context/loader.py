"""Blocks on their way into the arena."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artesian.context.base import Done, Load, Outcome
from artesian.context.gate import LoadGate
from artesian.context.shelf import Shelf
from artesian.kvcache.prefix_cache import PrefixCache

_MIN_PATIENCE_S = 0.5
"""Blocks are waited for so long, or twice as long as computing them would take."""

_CAUSES: dict[Outcome, str] = {
    "absent": "gone",
    "vanished": "taken away by another server",
    "corrupt": "damaged: its checksum did not fit",
}
"""Of blocks that were not loaded."""


@dataclass(slots=True, eq=False)
class Onboarding:
    """Blocks on their way into the prefix cache.

    Attributes:
        held: the blocks before them.
        load: how they come.
        is_done: they are there, or as many of them as could be had.
        is_late: they are not worth waiting for any more.
        num_loaded: how many.
    """

    names: list[bytes]
    held: list[int]
    blocks: list[int]
    started_s: float
    load: Load
    num_open: int
    is_good: npt.NDArray[np.bool_]
    is_done: bool = False
    is_late: bool = False
    num_loaded: int = 0


class Loader:
    """Loads blocks from a shelf and brings them into the prefix cache under their names."""

    def __init__(
        self,
        prefix_cache: PrefixCache,
        shelf: Shelf,
        gate: LoadGate,
        block_size_tokens: int,
        clock: Callable[[], float],
    ) -> None:
        self._prefix_cache = prefix_cache
        self._shelf = shelf
        self._gate = gate
        self._block_size_tokens = block_size_tokens
        self._clock = clock
        self._open: dict[int, tuple[int, Onboarding]] = {}
        self._loading: dict[bytes, Onboarding] = {}

    @property
    def num_open(self) -> int:
        """Loads under way."""
        return len(self._open)

    @property
    def names(self) -> list[bytes]:
        """Blocks that are wanted now."""
        return list(self._loading)

    def find(self, name: bytes) -> Onboarding | None:
        """What brings that block, if anything does."""
        return self._loading.get(name)

    def load(self, names: Sequence[bytes], hits: Sequence[int]) -> Onboarding:
        """Begins to load the blocks behind the cached blocks `hits`; there is room for them."""
        self._prefix_cache.acquire(hits)
        blocks = [self._prefix_cache.allocate() for _ in names]
        started_s = self._clock()
        load = self._shelf.tier.load(names, blocks)
        is_good = np.zeros(len(names), np.bool_)
        onboarding = Onboarding(
            list(names), list(hits), blocks, started_s, load, len(names), is_good
        )
        for index, (name, ticket) in enumerate(zip(names, load.tickets, strict=True)):
            self._open[ticket] = (index, onboarding)
            self._loading[name] = onboarding
        return onboarding

    def end(self, done: Done) -> bool:
        """Takes notice of a load that has ended; False if `done` is none."""
        if done.ticket not in self._open:
            return False
        index, onboarding = self._open.pop(done.ticket)
        onboarding.is_good[index] = done.outcome == "hit"
        if done.outcome not in ("hit", "skipped"):
            self._shelf.stats.num_failed_loads += 1
            self._shelf.stats.num_corrupt_blocks += done.outcome == "corrupt"
            if done.outcome != "failed":
                self._shelf.forget(onboarding.names[index], _CAUSES[done.outcome])
        onboarding.num_open -= 1
        if onboarding.num_open == 0:
            self._finish(onboarding)
        return True

    def look_at_clock(self) -> None:
        """A disk that hangs holds up nobody, and is known to be slow from then on."""
        now = self._clock()
        for onboarding in set(self._loading.values()):
            waited_s = now - onboarding.started_s
            num_blocks = len(onboarding.names)
            computing_s = self._gate.prefill_s(num_blocks * self._block_size_tokens)
            if not onboarding.is_late and waited_s > max(_MIN_PATIENCE_S, 2 * computing_s):
                onboarding.is_late = True
                self._gate.observe_load(num_blocks, waited_s)

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
            self._loading.pop(name, None)
        onboarding.num_loaded = count
        onboarding.is_done = True
        self._shelf.stats.num_loaded_blocks += count
        seconds = self._clock() - onboarding.started_s
        self._shelf.stats.load_s += seconds
        self._gate.observe_load(len(is_good), seconds)
