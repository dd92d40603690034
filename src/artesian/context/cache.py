"""The context cache: blocks leave the arena for tiers when they are full, and come back when a
prompt begins like them.

Everything happens beside the engine's steps. A load brings blocks into the prefix cache under their
names; the sequence that wanted them then finds them there like any others. It may start before
that, when the rule says that the layers come quickly enough.
"""

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from artesian.context.base import Done, Tier
from artesian.context.cost import PrefillCost
from artesian.context.cost_file import CostFile, Costs
from artesian.context.loader import Loader, Onboarding
from artesian.context.misses import MissLog
from artesian.context.policies import Rank
from artesian.context.preload import PreloadRule
from artesian.context.promoter import Promoter
from artesian.context.retention import Retention
from artesian.context.saver import Saver
from artesian.context.shelf import Shelf
from artesian.kvcache.prefix_cache import PrefixCache

_logger = logging.getLogger(__name__)

_QUIET_S = 30.0
"""Between two messages about a tier that fails."""
_LEAST_GAP = 2
"""Fewer blocks are not worth a step of their own."""
_EXPIRE_EVERY_S = 1.0
_WRITE_COSTS_S = 60.0
_LEARN_S = 1.0
"""Between two looks at all that others have and use in a tier that is full;"""
_LEARN_SHARE = 0.02
"""and no more of the engine's time than that."""
_MOST_REUSED = 100_000
"""Blocks of which it is known that more than one prompt began with them."""
_WAIT_S = 0.5e-3
"""While moves of several tiers are open each is waited for so long at a time."""

WritePolicy = Literal["through", "selective", "back"]
"""When a tier but the first one gets a block: with the first one; when a second prompt begins with
it; or when the tier above must make room."""


class ContextCache:
    """Moves blocks between a `PrefixCache` and tiers. The engine's thread owns it.

    Attributes:
        shelves: the tiers, the quickest one first. A block may be in several.
    """

    def __init__(
        self,
        prefix_cache: PrefixCache,
        tiers: Sequence[Tier],
        block_size_tokens: int,
        clock: Callable[[], float] = time.monotonic,
        write: WritePolicy = "through",
        retention: Retention | None = None,
        rule: PreloadRule | None = None,
    ) -> None:
        """`rule` says when sequences start whose blocks are on their way; without one they wait
        for them."""
        self.misses = MissLog()
        self._rule = rule
        self._prefill = PrefillCost()
        self.shelves: list[Shelf] = []
        for tier in reversed(tiers):
            below = self.shelves[0] if self.shelves and write == "back" else None
            self.shelves.insert(0, Shelf(tier, self.misses, self._prefill, below, retention, clock))
        self._prefix_cache = prefix_cache
        self._block_size_tokens = block_size_tokens
        self._clock = clock
        self._write = write
        self._savers = [Saver(prefix_cache, shelf) for shelf in self.shelves]
        self._loader = Loader(prefix_cache, self.shelves, block_size_tokens, clock)
        self._promoter: Promoter | None = None
        if len(tiers) > 1:
            self._promoter = Promoter(self.shelves, block_size_tokens)
        self._reused: OrderedDict[bytes, None] = OrderedDict()
        self._discarding: set[bytes] = set()
        self._cost_file: CostFile | None = None
        self._next_write_s = self._clock() + _WRITE_COSTS_S
        self._next_learn_s = [-math.inf] * len(tiers)
        self._expires = retention is not None and retention.ttl_s is not None
        self._next_look_s = 0.0
        self._next_message_s = 0.0

    @property
    def num_saving(self) -> int:
        """Saves under way."""
        return sum(saver.num_open for saver in self._savers)

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way."""
        is_moving = any(shelf.is_busy for shelf in self.shelves)
        return bool(self.num_saving or self._loader.num_open or self._num_promoted(0) or is_moving)

    def observe_prefill(self, num_tokens: int, seconds: float, first: int = 0) -> None:
        """A step computed so many tokens of a prompt behind `first`, and little else."""
        self._prefill.observe(first, num_tokens, seconds)

    def keep_costs(self, file: CostFile) -> None:
        """Begins with the costs that a file has, and keeps it up to date."""
        costs = file.read()
        self._prefill = costs.prefill
        for shelf in self.shelves:
            shelf.gate.restore(costs.prefill, costs.load.get(shelf.tier.label))
        self._cost_file = file

    def save(
        self, names: Sequence[bytes], blocks: Sequence[int], first: int, tenant: str = ""
    ) -> int:
        """Begins to save blocks `first`, `first + 1`, ... of a sequence, which holds them all.

        Returns how many of them are saved, or will be; the next ones may be tried again later.
        """
        count = len(blocks) - first
        for place, saver in enumerate(self._savers):
            wanted = None
            if place > 0:
                if self._write == "back":
                    break
                wanted = self._reused if self._write == "selective" else None
            if first < len(blocks):
                self._make_room(place, len(blocks) - first)
            count = min(count, saver.save(names, blocks, first, wanted, tenant))
        return count

    def onboard(
        self,
        names: Sequence[bytes],
        hits: Sequence[int],
        num_reserved: int = 0,
        tenant: str = "",
        may_split: bool = False,
        is_alone: bool = False,
        num_tokens: int = 0,
        step_tokens: int = 0,
    ) -> Onboarding | None:
        """Begins to load what the tiers have of `names` behind the cached blocks `hits`, each from
        the quickest tier that has it.

        None when there is nothing, no room but for `num_reserved` blocks, or computing it is
        quicker. When the first of them is on its way already, that is the answer. Whoever wanted
        them and does not any more says so with `leave`.

        Args:
            may_split: the first of them, the `gap`, may be left to be computed now, while the
                others come; `wait_for_tail` says that this is done.
            is_alone: nobody else is held up by computing them.
            num_tokens: of the whole prompt, of which a step computes `step_tokens` at most: what is
                behind the blocks is computed while their layers come.
        """
        for shelf in self.shelves:
            shelf.use(names, tenant)  # what memory has is wanted as well: a restart would need it
        missing = names[len(hits) :]
        if not missing:
            self._reuse(names)
            return None
        if onboarding := self._loader.find(missing[0]):
            onboarding.num_waiting += 1
            return onboarding
        room = self._prefix_cache.num_available_blocks - self._prefix_cache.num_idle(hits)
        sources = self._loader.sources(missing)
        self._reuse(names[: len(hits) + len(sources)])
        sources = sources[: max(0, room - num_reserved)]
        num_behind = num_tokens - (len(hits) + len(sources)) * self._block_size_tokens
        num_behind = max(0, min(num_behind, step_tokens))
        num_gap, sources = self._choose(sources, len(hits), may_split, is_alone, num_behind)
        if not sources:
            return None
        gap, names = missing[:num_gap], missing[num_gap : len(sources)]
        onboarding = self._loader.load(names, hits, sources[num_gap:], gap)
        onboarding.num_waiting = 1
        return onboarding

    def wait_for_tail(self, onboarding: Onboarding) -> None:
        """Its gap has been computed: from now on its blocks are waited for, but not for long."""
        self._loader.wait_for_tail(onboarding)
        self._loader.settle(onboarding)

    def may_start(
        self, onboarding: Onboarding, first: int, num_tokens: int, is_alone: bool
    ) -> bool:
        """Whether to compute `num_tokens` tokens, behind the first `first`, while it goes on."""
        rule = self._rule
        if rule is None:
            return False
        prefill_s = self._prefill.seconds(first, num_tokens)
        num_layers = self._prefix_cache.allocator.num_layers
        return all(
            rule.may_start(run.progress(num_layers), prefill_s, is_alone) for run in onboarding.runs
        )

    def patience_s(self, onboarding: Onboarding) -> float:
        """How long a step waits for its blocks."""
        patience_s = self._loader.patience_s(onboarding)
        if self._rule is not None:
            num_layers = self._prefix_cache.allocator.num_layers
            for run in onboarding.runs:
                patience_s = min(patience_s, self._rule.patience_s(run.progress(num_layers)))
        return max(patience_s, 0.0)

    def leave(self, onboarding: Onboarding) -> None:
        """Somebody does not want its blocks any more; if nobody else does, they do not come."""
        onboarding.num_waiting -= 1
        if onboarding.num_waiting == 0:
            self._loader.cancel(onboarding)

    def enqueue(self, rank: Rank, names: Sequence[bytes], tenant: str = "") -> None:
        """A job that would use these blocks waits for its turn; lower ranks run first."""
        for shelf in self.shelves:
            shelf.enqueue(rank, names, tenant)
        if self._promoter is not None:
            self._promoter.enqueue(rank, names, tenant)

    def dequeue(self, rank: Rank) -> None:
        """The job runs, or was given up."""
        for shelf in self.shelves:
            shelf.dequeue(rank)
        if self._promoter is not None:
            self._promoter.dequeue(rank)

    def pin(self, names: Sequence[bytes], seconds: float) -> None:
        """The blocks of a prefix stay in the tiers for so long, as far as budgets allow."""
        for shelf in self.shelves:
            shelf.pin(names, seconds)

    def unpin(self, names: Sequence[bytes]) -> None:
        """Blocks go like all others."""
        for shelf in self.shelves:
            shelf.unpin(names)

    def count_pinned(self, names: Sequence[bytes]) -> dict[str, int]:
        """How many of these blocks stay in each tier."""
        return {shelf.tier.label: shelf.count_pinned(names) for shelf in self.shelves}

    def discard(self, names: Iterable[bytes]) -> None:
        """Begins to take blocks out of all tiers, for all servers."""
        self._discarding.update(names)
        self._discard()

    def is_discarding(self, names: Iterable[bytes]) -> bool:
        """Whether any of these blocks is still on its way out of a tier, or into memory."""
        wanted = set(names)
        return not (
            wanted.isdisjoint(self._discarding)
            and wanted.isdisjoint(self._loader.names)
            and not any(shelf.is_removing(wanted) for shelf in self.shelves)
        )

    def find(self, names: Sequence[bytes]) -> dict[str, int]:
        """How many of the first `names` could be loaded, each from the quickest tier."""
        counts = {shelf.tier.label: 0 for shelf in self.shelves}
        for shelf in self._loader.sources(names):
            counts[shelf.tier.label] += 1
        return counts

    def count(self, names: Iterable[bytes]) -> dict[str, int]:
        """How many of these blocks each tier has, as far as this process knows."""
        wanted = list(names)
        return {shelf.tier.label: sum(name in shelf for name in wanted) for shelf in self.shelves}

    def poll(self) -> None:
        """Takes notice of what has ended; makes room in the tiers."""
        for place, shelf in enumerate(self.shelves):
            ended = shelf.tier.poll()
            for done in ended:
                self._end(place, done)
            if error := shelf.tier.take_error():
                self._report(shelf, error)
            num_refused = sum(done.outcome == "full" for done in ended)
            if num_refused:
                self._learn(place)  # others may have filled it
                self._make_room(place, 0, num_refused)
        self._loader.look_at_clock()
        self._discard()
        now = self._clock()
        if self._promoter is not None:
            self._promoter.look(now, self._is_unwanted)
        if self._expires and now >= self._next_look_s:
            self._next_look_s = now + _EXPIRE_EVERY_S
            for place in range(len(self.shelves)):
                self._learn(place)  # what others use does not expire
                self._make_room(place, 0)
        if now >= self._next_write_s:
            self._next_write_s = now + _WRITE_COSTS_S
            self._write_costs()

    def wait(self, timeout_s: float) -> None:
        """Waits until something has ended, or nothing is open."""
        until = self._clock() + timeout_s
        while True:
            tiers = [shelf.tier for shelf in self.shelves if shelf.tier.num_open]
            left_s = until - self._clock()
            if len(tiers) < 2:
                for tier in tiers or [shelf.tier for shelf in self.shelves]:
                    tier.wait(left_s)
                return
            if any(tier.wait(min(_WAIT_S, max(left_s, 0.0))) for tier in tiers) or left_s <= 0:
                return

    def close(self, timeout_s: float) -> None:
        """Waits for saves, and for what makes room for them, but no longer than that."""
        until = self._clock() + timeout_s
        self.poll()
        shelves = self.shelves
        while (self.num_saving or any(s.is_busy for s in shelves)) and self._clock() < until:
            self.wait(until - self._clock())
            self.poll()
        self._write_costs()
        if self._cost_file is not None:
            self._cost_file.close(timeout_s)

    def _end(self, place: int, done: Done) -> None:
        shelf = self.shelves[place]
        _ = (
            self._savers[place].end(done)
            or self._loader.end(shelf, done)
            or shelf.end_removal(done)
            or (place > 0 and self.shelves[place - 1].end_move(done))
            or (place == 0 and self._promoter is not None and self._promoter.end(done))
        )

    def _num_promoted(self, place: int) -> int:
        """Blocks on their way up into a tier."""
        return 0 if place or self._promoter is None else self._promoter.num_open

    def _is_unwanted(self, names: Sequence[bytes]) -> bool:
        return self.is_discarding(names) or bool(self._prefix_cache.lookup(names[:1]))

    def _choose(
        self,
        sources: list[Shelf],
        num_before: int,
        may_split: bool,
        is_alone: bool,
        num_behind: int,
    ) -> tuple[int, list[Shelf]]:
        """How many of the first blocks to compute while those behind them come, and which blocks
        both are together; blocks of several tiers are not split. `num_behind` tokens are computed
        behind all of them."""
        if may_split and len(set(map(id, sources))) == 1:
            gate, size, count = sources[0].gate, self._block_size_tokens, len(sources)
            first = num_before * size
            if is_alone or not gate.is_quicker(count, size, first):  # else others need the time
                plan = gate.plan(count, size, first)
                behind_s = gate.prefill_s(num_behind, first + count * size)
                whole_s = max(gate.load.seconds(count), behind_s)
                if self._rule is not None and whole_s <= plan.seconds + behind_s:
                    return 0, sources  # what is behind them is computed while all of them come
                num_gap = plan.num_computed if plan.num_computed >= _LEAST_GAP else 0
                return num_gap, sources if plan.num_loaded else []
        return 0, self._worth_loading(sources, num_before)

    def _worth_loading(self, sources: list[Shelf], num_before: int) -> list[Shelf]:
        """Cuts them off before the first block of a tier from which computing is quicker."""
        for shelf in dict.fromkeys(sources):
            first = sources.index(shelf)
            count = sources.count(shelf)
            tokens = (num_before + first) * self._block_size_tokens
            if not shelf.gate.should_load(count, self._block_size_tokens, tokens):
                return sources[:first]
        return sources

    def _reuse(self, names: Sequence[bytes]) -> None:
        """One more prompt begins with these blocks."""
        if self._write == "selective":
            for name in names:
                self._reused[name] = None
                self._reused.move_to_end(name)
            while len(self._reused) > _MOST_REUSED:
                self._reused.popitem(last=False)

    def _write_costs(self) -> None:
        if self._cost_file is not None:
            load = {shelf.tier.label: shelf.gate.load for shelf in self.shelves}
            self._cost_file.write(Costs(prefill=self._prefill, load=load))

    def _discard(self) -> None:
        """A removal would overtake a save: so what is being saved goes once it is there."""
        if self._discarding:
            ready = set(self._discarding)
            for saver, shelf in zip(self._savers, self.shelves, strict=True):
                ready -= saver.names
                ready -= shelf.moving
            if self._promoter is not None:
                ready -= self._promoter.names
            self._discarding -= ready
            for shelf in self.shelves:
                shelf.discard(ready)

    def _learn(self, place: int) -> None:
        """Looks at all that a tier has, but not again at once."""
        started = self._clock()
        if started >= self._next_learn_s[place]:
            self.shelves[place].learn()
            took_s = self._clock() - started
            self._next_learn_s[place] = started + max(_LEARN_S, took_s / _LEARN_SHARE)

    def _make_room(self, place: int, num_blocks: int, num_refused: int = 0) -> None:
        """Begins to take away what is in the way of so many blocks more."""
        num_coming = num_blocks + self._savers[place].num_open + self._num_promoted(place)
        self.shelves[place].make_room(num_coming, self._loader.names, num_refused)

    def _report(self, shelf: Shelf, error: str) -> None:
        """A tier that fails costs hits and nothing else; so now and then a line says so."""
        now = self._clock()
        if now >= self._next_message_s:
            self._next_message_s = now + _QUIET_S
            _logger.warning("the %s tier of the context cache fails: %s", shelf.tier.label, error)
