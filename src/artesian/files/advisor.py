"""The advisor that finds out how files are read."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from artesian.files.base import BLOCK_BYTES, Access, Block, Explanation, Prefetch, Unit, Verdict
from artesian.files.look_ahead import LookAhead
from artesian.files.policies import KeepResidents, OriginCost, SpaceSharing
from artesian.files.reasons import reasons
from artesian.files.tree import AccessStreamTree, TreeOptions
from artesian.files.unit_state import UnitState

_FULL = 0.95
"""From so much of the capacity on, what is let in pushes something else out."""
_FLOOR = 0.02
_BUDGET = 8
"""What is fetched ahead and not wanted yet is one part in so many of a unit's room at most."""
_LEAST_BUDGET_BLOCKS = 8
_REMEMBERED = "artesian files verdicts 1"
_NO_UNIT = 0
_MOST_GUESTS = 4096


@dataclass(frozen=True, slots=True)
class AdvisorOptions:
    """What the advisor does.

    Attributes:
        tree: how accesses are judged; judges: whether they are, else all blocks are one unit.
        prefetches: whether anything is fetched ahead.
        evicts_by_verdict: whether each unit has the policy of its verdict, else all have LRU.
        skewed: policy of skewed units.
        shares_by: room of units by what they make of it, or the same for all.
        period_s: between two looks at the shares.
    """

    tree: TreeOptions = field(default_factory=TreeOptions)
    judges: bool = True
    prefetches: bool = True
    evicts_by_verdict: bool = True
    skewed: Literal["lru", "s3fifo"] = "lru"
    shares_by: Literal["benefit", "equal"] = "benefit"
    period_s: float = 10.0


class PatternAdvisor:
    """An `Advisor` over a tree of access streams: IGTCache (2506.12370), reconstructed.

    Each unit of the tree has its own order of eviction, its own budget for what is fetched ahead,
    and a share of the room. What belongs to no unit yet is unit 0, with LRU.
    """

    def __init__(
        self,
        capacity_bytes: int,
        block_bytes: int = BLOCK_BYTES,
        options: AdvisorOptions | None = None,
    ) -> None:
        self._options = options or AdvisorOptions()
        self._capacity_bytes = capacity_bytes
        self._block_bytes = block_bytes
        self._tree = AccessStreamTree(block_bytes, self._options.tree)
        self._space = SpaceSharing(capacity_bytes)
        self._cost = OriginCost()
        self._units = {_NO_UNIT: UnitState("", Verdict.UNKNOWN, self._space.step_bytes, 0.0)}
        self._space.shares[_NO_UNIT] = capacity_bytes
        self._of: dict[Block, tuple[UnitState, int]] = {}  # the unit that has a block, its bytes
        self._ahead = LookAhead(block_bytes, self._of.__contains__)
        self._guests: dict[Block, bool] = {}  # let in as such, and whether it was read
        self._used_bytes = 0
        self._reviewed_s: float | None = None

    def access(self, access: Access, *, is_ours: bool = True) -> Sequence[Prefetch]:
        """See `Advisor`."""
        number = _NO_UNIT
        now_s = access.time_s
        if self._options.judges:
            number, has_changes = self._tree.access(access)
            if has_changes:
                self._apply_changes(now_s)
        unit = self._units.get(number, self._units[_NO_UNIT])
        self._count(access, unit)
        if self._reviewed_s is None:
            self._reviewed_s = now_s
        elif now_s - self._reviewed_s >= self._options.period_s:
            self._review(now_s, now_s - self._reviewed_s)
        if not is_ours or not self._options.prefetches:
            return ()
        share = self._share(number)
        free = self._capacity_bytes * _FULL - self._used_bytes
        room = max(share, int(free))
        unit.budget.resize(max(room // _BUDGET, _LEAST_BUDGET_BLOCKS * self._block_bytes))
        return self._ahead.access(access, unit, self._cost, share, free)

    def _count(self, access: Access, unit: UnitState) -> None:
        first = access.offset // self._block_bytes
        last = max(access.offset, access.offset + access.length - 1) // self._block_bytes
        size = min(self._block_bytes, max(1, access.file_bytes))
        cost_s = self._cost.cost_s(size)
        for number in range(first, last + 1):
            block = Block(access.path, number)
            owner = self._of.get(block)
            (unit if owner is None else owner[0]).use(block, cost_s, access.time_s)
        unit.last_s = access.time_s
        unit.num_hits += access.num_hits
        unit.num_misses += last + 1 - first - access.num_hits
        unit.saved_s += access.num_hits * cost_s

    def admit(self, block: Block, num_bytes: int, now_s: float, *, is_prefetch: bool) -> bool:
        """See `Advisor`. All blocks get room, as most are read in pieces; but in a unit that keeps
        what it has, one beyond the share is a guest."""
        if num_bytes > self._capacity_bytes:
            return False
        if self._used_bytes + num_bytes <= _FULL * self._capacity_bytes:
            return True
        number = self._tree.unit_of(block.path)
        unit = self._units.get(number, self._units[_NO_UNIT])
        if not isinstance(unit.eviction, KeepResidents):
            return True
        if unit.eviction.used_bytes + num_bytes <= self._share(number):
            return True
        self._guests[block] = not is_prefetch
        while len(self._guests) > _MOST_GUESTS:
            del self._guests[next(iter(self._guests))]
        return True

    def stored(self, block: Block, num_bytes: int, now_s: float, *, is_ours: bool = True) -> None:
        """See `Advisor`."""
        self._forget(block)
        number = self._tree.unit_of(block.path) if self._options.judges else _NO_UNIT
        unit = self._units.get(number, self._units[_NO_UNIT])
        was_read = self._guests.pop(block, None)
        if was_read is not None and isinstance(unit.eviction, KeepResidents):
            unit.eviction.add_guest(block, num_bytes, was_read=was_read)
        else:
            unit.eviction.add(block, num_bytes)
        unit.ghosts.take(block)
        self._of[block] = (unit, num_bytes)
        self._used_bytes += num_bytes

    def removed(self, block: Block, now_s: float) -> None:
        """See `Advisor`."""
        known = self._of.pop(block, None)
        if known is not None:
            self._used_bytes -= known[1]
            known[0].remove(block)

    def _forget(self, block: Block) -> None:
        known = self._of.pop(block, None)
        if known is not None:
            self._used_bytes -= known[1]
            known[0].eviction.remove(block)

    def victims(self, num_bytes: int, now_s: float) -> Iterator[Block]:
        """See `Advisor`: what is spent, then idle units, then units beyond their share, then the
        others, those that keep what they have last."""
        chosen: set[Block] = set()
        units = list(self._units.items())
        for _, unit in units:
            yield from self._fresh(unit.eviction.spent(), chosen)
        for _, unit in units:
            if unit.is_idle(now_s):
                yield from self._fresh(unit.eviction.order(), chosen)
        over = {n: u.eviction.used_bytes - self._share(n) for n, u in units}
        for number in sorted(over, key=lambda number: -over[number]):
            beyond = self._units.get(number)
            left = over[number] - sum(self._bytes(b) for b in chosen if self._is_of(b, beyond))
            if beyond is None or left <= 0:
                continue
            for block in self._fresh(beyond.eviction.order(), chosen):
                left -= self._bytes(block)
                yield block
                if left <= 0:
                    break
        for _, unit in sorted(units, key=lambda item: isinstance(item[1].eviction, KeepResidents)):
            yield from self._fresh(unit.eviction.order(), chosen)

    def _fresh(self, blocks: Iterator[Block], chosen: set[Block]) -> Iterator[Block]:
        for block in blocks:
            if block not in chosen:
                chosen.add(block)
                yield block

    def _bytes(self, block: Block) -> int:
        return self._of[block][1] if block in self._of else 0

    def _is_of(self, block: Block, unit: UnitState | None) -> bool:
        return block in self._of and self._of[block][0] is unit

    def expired(self, now_s: float) -> Sequence[Block]:
        """See `Advisor`: nothing goes while there is room."""
        return ()

    def fetched(self, path: str, num_bytes: int, took_s: float) -> None:
        """See `Advisor`."""
        self._cost.learn(num_bytes, took_s)

    def listed(self, folder: str, names: Sequence[str]) -> None:
        """See `Advisor`."""
        self._tree.listed(folder, names)
        self._ahead.listed(folder, names)

    def resize(self, capacity_bytes: int) -> None:
        """See `Advisor`."""
        self._capacity_bytes = capacity_bytes
        self._space.resize(capacity_bytes)
        for unit in self._units.values():
            unit.resize_step(self._space.step_bytes)

    def units(self, now_s: float) -> Sequence[Unit]:
        """See `Advisor`."""
        found = [u.describe(self._share(n), now_s) for n, u in self._units.items()]
        return sorted(found, key=lambda unit: unit.path)

    def explain(self, path: str, now_s: float) -> Explanation:
        """See `Advisor`."""
        levels = self._tree.explain(path)
        number = self._tree.unit_of(path)
        unit = self._units.get(number, self._units[_NO_UNIT])
        own = levels[-1] if levels and levels[-1].path == path else None
        return Explanation(
            path=path,
            verdict=own.verdict if own else Verdict.UNKNOWN,
            unit=unit.describe(self._share(number), now_s),
            is_provisional=own.is_provisional if own else True,
            reasons=reasons(levels, unit.path, unit.eviction.title),
            numbers=dict(own.numbers) if own else {},
        )

    def save(self) -> bytes:
        """See `Advisor`: verdicts of units, as JSON."""
        content = {"format": _REMEMBERED, "units": self._tree.remember()}
        return json.dumps(content).encode()

    def load(self, saved: bytes) -> None:
        """See `Advisor`."""
        try:
            content = json.loads(saved)
            if content["format"] != _REMEMBERED:
                return
            found = [(str(path), str(v), bool(again)) for path, v, again in content["units"]]
        except (ValueError, TypeError, KeyError):
            return
        self._tree.recall(found)

    def _share(self, number: int) -> int:
        if self._options.shares_by == "equal":
            return self._capacity_bytes // len(self._units)
        return self._space.shares.get(number, 0)

    def _apply_changes(self, now_s: float) -> None:
        for number, path, verdict in self._tree.take_changes():
            if verdict == Verdict.UNKNOWN:
                self._end_unit(number, path)
                continue
            unit = self._units.get(number)
            if unit is None:
                self._begin_unit(number, path, verdict, now_s)
            else:
                unit.verdict = verdict
            self._refresh(number)

    def _begin_unit(self, number: int, path: str, verdict: Verdict, now_s: float) -> None:
        unit = UnitState(path, verdict, self._space.step_bytes, now_s)
        self._units[number] = unit
        prefix = path if not path or path.endswith("/") else path + "/"
        for block, (owner, num_bytes) in list(self._of.items()):
            is_below = block.path == path or block.path.startswith(prefix)
            if is_below and len(owner.path) <= len(path) and owner is not unit:
                owner.eviction.remove(block)
                unit.eviction.add(block, num_bytes)
                self._of[block] = (unit, num_bytes)
        used = unit.eviction.used_bytes
        floor = int(_FLOOR * self._capacity_bytes)
        self._space.begin(number, max(used, floor), self._richest())

    def _richest(self) -> int:
        """Whose room a new unit begins with: what nobody uses first."""
        spare = {n: s - self._units[n].eviction.used_bytes for n, s in self._space.shares.items()}
        return max(spare, key=lambda number: spare[number])

    def _end_unit(self, number: int, path: str) -> None:
        unit = self._units.pop(number, None)
        if unit is None:
            return
        heir_number = self._tree.unit_of(path)
        if heir_number not in self._units:
            heir_number = _NO_UNIT
        heir = self._units[heir_number]
        for block, num_bytes in unit.eviction.items():
            heir.eviction.add(block, num_bytes)
            self._of[block] = (heir, num_bytes)
        self._space.end(number, heir_number)

    def _refresh(self, number: int) -> None:
        """Facts of a unit, and its policy by them."""
        unit = self._units[number]
        unit.facts = self._tree.unit(number) if number else None
        if number and self._options.evicts_by_verdict:
            was_reread = self._tree.was_reread(unit.path)
            unit.choose_eviction(self._options.skewed, self._space.step_bytes, was_reread)

    def _review(self, now_s: float, took_s: float) -> None:
        """Looks again at all units and moves a step of room."""
        self._reviewed_s = now_s
        floor = int(_FLOOR * self._capacity_bytes)
        demands = {}
        for number, unit in self._units.items():
            self._refresh(number)
            least = 0 if number == _NO_UNIT else floor
            step = self._space.step_bytes
            demands[number] = unit.demand(self._share(number), step, least, took_s, now_s)
        if self._options.shares_by == "benefit":
            self._space.step(demands)
