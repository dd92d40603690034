"""Blocks on their way into the arena."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from artesian.context.base import Done, Gate, Load, Outcome
from artesian.context.preload import Progress
from artesian.context.shelf import Shelf
from artesian.kvcache.prefix_cache import PrefixCache

_MIN_PATIENCE_S = 0.5
"""Blocks are waited for so long, or twice as long as computing them would take, or four times as
long as they should take, whichever of the two is less."""
_TAIL_PATIENCE = 0.02
"""A tail is waited for, once what is before it is computed, for so much of the time that computing
all of it takes: so a wrong guess costs no more."""

_CAUSES: dict[Outcome, str] = {
    "absent": "gone",
    "vanished": "taken away by another server",
    "corrupt": "damaged: its checksum did not fit",
}
"""Of blocks that were not loaded."""


@dataclass(slots=True, eq=False)
class Run:
    """Consecutive blocks of an onboarding that come from one tier.

    Attributes:
        start: the first one; stop: behind the last one.
        failed: one that could not be had, None if there is none so far.
    """

    shelf: Shelf
    start: int
    stop: int
    load: Load
    num_open: int
    failed: int | None = None

    def progress(self, num_layers: int) -> Progress:
        """How far it has come, in layers of which a block has so many."""
        gate = self.load.gate
        num_here = gate.ready_bytes * num_layers // self.shelf.tier.block_bytes
        expected_s = self.shelf.gate.load.seconds(self.stop - self.start)
        return Progress(num_layers, num_here, gate.elapsed_s, expected_s)


@dataclass(slots=True, eq=False)
class Onboarding:
    """Blocks on their way into the prefix cache.

    Attributes:
        held: the blocks before them.
        gap: names of blocks between those, which a sequence computes meanwhile; the blocks that
            come are found by others only when all of these are.
        num_before: blocks before them, those of the gap included.
        until_s: they are not worth waiting for after that.
        runs: how they come; the blocks of all of them together are `names`. A run that fails in the
            middle is cut off there, and the rest comes from elsewhere, if it can be had.
        is_done: they are there, or as many of them as could be had.
        is_late: they are not worth waiting for any more.
        is_taken: a sequence has started over them although they were not there.
        is_cancelled: nobody wanted them any more.
        num_waiting: sequences, and others, that want them.
        num_loaded: how many.
    """

    names: list[bytes]
    held: list[int]
    blocks: list[int]
    started_s: float
    until_s: float
    num_before: int
    is_good: npt.NDArray[np.bool_]
    gap: list[bytes] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    is_done: bool = False
    is_late: bool = False
    is_taken: bool = False
    is_cancelled: bool = False
    num_waiting: int = 0
    num_loaded: int = 0

    @property
    def gates(self) -> list[Gate]:
        """How far its runs have come."""
        return [run.load.gate for run in self.runs]

    def blocks_of(self, names: Sequence[bytes]) -> list[int]:
        """Those of the first `names` that are on their way, while all of them may still come."""
        if self.is_done or self.is_late or not all(gate.is_open for gate in self.gates):
            return []
        if not names or names[0] not in self.names:
            return []
        first = self.names.index(names[0])
        pairs = zip(self.names[first:], names, strict=False)
        count = next((i for i, (ours, wanted) in enumerate(pairs) if ours != wanted), None)
        count = min(len(names), len(self.names) - first) if count is None else count
        return self.blocks[first : first + count]


class Loader:
    """Loads blocks from shelves and brings them into the prefix cache under their names."""

    def __init__(
        self,
        prefix_cache: PrefixCache,
        shelves: Sequence[Shelf],
        block_size_tokens: int,
        clock: Callable[[], float],
    ) -> None:
        """`shelves`: the quickest one first."""
        self._prefix_cache = prefix_cache
        self._shelves = list(shelves)
        self._block_size_tokens = block_size_tokens
        self._clock = clock
        self._open: dict[tuple[str, int], tuple[int, Run, Onboarding]] = {}
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

    def sources(self, names: Sequence[bytes]) -> list[Shelf]:
        """For each of the first `names` the quickest tier that has it, until none has one."""
        first = self._shelves[0]
        sources = [first] * first.tier.find(names)
        for name in names[len(sources) :]:
            shelf = next((shelf for shelf in self._shelves if shelf.tier.find([name])), None)
            if shelf is None:
                break
            sources.append(shelf)
        return sources

    def load(
        self,
        names: Sequence[bytes],
        hits: Sequence[int],
        sources: Sequence[Shelf],
        gap: Sequence[bytes] = (),
    ) -> Onboarding:
        """Begins to load the blocks behind the cached blocks `hits` and those of the `gap`, each
        from its source; there is room for them."""
        self._prefix_cache.acquire(hits)
        blocks = [self._prefix_cache.allocate() for _ in names]
        is_good = np.zeros(len(names), np.bool_)
        now = self._clock()
        until_s = math.inf if gap else now + self._expected_patience_s(sources)
        onboarding = Onboarding(
            list(names), list(hits), blocks, now, until_s, len(hits) + len(gap), is_good, list(gap)
        )
        for name in names:
            self._loading[name] = onboarding
        self._begin(onboarding, 0, sources)
        return onboarding

    def end(self, shelf: Shelf, done: Done) -> bool:
        """Takes notice of a load from a shelf that has ended; False if `done` is none."""
        key = (shelf.tier.label, done.ticket)
        if key not in self._open:
            return False
        index, run, onboarding = self._open.pop(key)
        name = onboarding.names[index]
        if done.outcome == "hit":
            onboarding.is_good[index] = True
            shelf.add(name)  # others may have saved it
        elif done.outcome != "skipped":
            run.failed = index if run.failed is None else min(run.failed, index)
            shelf.stats.num_failed_loads += 1
            if done.outcome != "failed":
                shelf.lose(name, _CAUSES[done.outcome], done.outcome == "corrupt")
        run.num_open -= 1
        if run.num_open == 0:
            self._end_run(onboarding, run, done.took_s)
        return True

    def patience_s(self, onboarding: Onboarding) -> float:
        """How much longer the blocks are worth waiting for."""
        return onboarding.until_s - self._clock()

    def wait_for_tail(self, onboarding: Onboarding) -> None:
        """What is before its blocks is computed."""
        num_blocks = onboarding.num_before + len(onboarding.names)
        computing_s = self._shelves[0].gate.prefill_s(num_blocks * self._block_size_tokens)
        onboarding.until_s = self._clock() + _TAIL_PATIENCE * computing_s

    def cancel(self, onboarding: Onboarding) -> None:
        """Nobody wants the blocks any more."""
        if not onboarding.is_done:
            onboarding.is_cancelled = True
            for run in onboarding.runs:
                if run.num_open:
                    run.shelf.tier.cancel(run.load)
            self.settle(onboarding)

    def look_at_clock(self) -> None:
        """A disk that hangs holds up nobody, and is known to be slow from then on."""
        for onboarding in set(self._loading.values()):
            if onboarding.gap:
                self.settle(onboarding)
            if not onboarding.is_late and self.patience_s(onboarding) < 0:
                onboarding.is_late = True
                waited_s = self._clock() - onboarding.started_s
                for run in onboarding.runs:
                    if run.num_open:
                        run.shelf.gate.observe_load(run.stop - run.start, waited_s)
                self.settle(onboarding)

    def _begin(self, onboarding: Onboarding, start: int, sources: Sequence[Shelf]) -> None:
        """Begins to load blocks `start`, `start + 1`, ..., those of one tier as one run."""
        index = 0
        while index < len(sources):
            shelf, first = sources[index], start + index
            while index < len(sources) and sources[index] is shelf:
                index += 1
            stop = start + index
            load = shelf.tier.load(onboarding.names[first:stop], onboarding.blocks[first:stop])
            run = Run(shelf, first, stop, load, stop - first)
            onboarding.runs.append(run)
            for number, ticket in enumerate(load.tickets, first):
                self._open[shelf.tier.label, ticket] = (number, run, onboarding)

    def _end_run(self, onboarding: Onboarding, run: Run, seconds: float) -> None:
        """`seconds`: how long it has had its turn."""
        num_loaded = int(onboarding.is_good[run.start : run.stop].sum())
        run.shelf.stats.num_loaded_blocks += num_loaded
        run.shelf.stats.load_s += seconds
        if not onboarding.is_cancelled:
            run.shelf.gate.observe_load(run.stop - run.start, seconds)
            if run.failed is not None:
                self._go_on(onboarding, run, run.failed)
        self.settle(onboarding)

    def settle(self, onboarding: Onboarding) -> None:
        """Brings what has come into the prefix cache, if all of it has, and the gap is closed."""
        if onboarding.is_done or any(run.num_open for run in onboarding.runs):
            return
        gap = self._prefix_cache.lookup(onboarding.gap)
        if len(gap) == len(onboarding.gap):
            self._prefix_cache.acquire(gap)
            onboarding.held += gap
            self._finish(onboarding)
        elif onboarding.is_late or onboarding.is_cancelled:
            onboarding.is_good[:] = False  # nobody could find it
            self._finish(onboarding)

    def _expected_patience_s(self, sources: Sequence[Shelf]) -> float:
        num_tokens = len(sources) * self._block_size_tokens
        computing_s = 2 * self._shelves[0].gate.prefill_s(num_tokens)
        counts = Counter(source.tier.label for source in sources)
        loads = {source.tier.label: source.gate.load for source in sources}
        if all(load.is_known for load in loads.values()):
            expected_s = sum(loads[label].seconds(count) for label, count in counts.items())
            computing_s = min(computing_s, 4 * expected_s)
        return max(_MIN_PATIENCE_S, computing_s)

    def _go_on(self, onboarding: Onboarding, run: Run, failed: int) -> None:
        """The block `failed` cannot be had from its tier, so those behind it were skipped there:
        they come from wherever they are now. Ends, as that block has fewer tiers each time."""
        below = self._shelves[self._shelves.index(run.shelf) + 1 :]
        other = next((s for s in below if s.tier.find(onboarding.names[failed : failed + 1])), None)
        if other is not None:
            rest = self.sources(onboarding.names[failed + 1 : run.stop])
            run.stop = failed
            self._begin(onboarding, failed, [other, *rest])

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
        for shelf in self._shelves:
            shelf.use(onboarding.names)  # the ends of what came go first
        onboarding.num_loaded = count
        onboarding.is_done = True
