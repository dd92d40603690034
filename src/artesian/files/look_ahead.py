"""What to fetch before it is asked for, by how a unit is read."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from artesian.files.base import Access, Block, Prefetch, Verdict
from artesian.files.policies import Fill, FolderAhead, OriginCost, ReadAhead, Siblings
from artesian.files.unit_state import UnitState

_MOST_WINDOW = 64
_LEAST_MOST_WINDOW = 4
_MOST_FILES = 32
_FILL_AT_ONCE = 4
_MOST_LISTINGS = 10_000
_WHOLE = 1 << 30


class LookAhead:
    """Binds the policies that fetch ahead to units, listings and budgets."""

    def __init__(self, block_bytes: int, is_here: Callable[[Block], bool]) -> None:
        """`is_here` says whether a block need not be fetched."""
        self._block_bytes = block_bytes
        self._is_here = is_here
        self._read_ahead = ReadAhead()
        self._folder_ahead = FolderAhead()
        self._siblings = Siblings()
        self._listings: OrderedDict[str, Sequence[str]] = OrderedDict()
        self._ranks: dict[str, dict[str, int]] = {}
        self._fills: dict[str, Fill] = {}
        self._piece_bytes = block_bytes  # of a block, as the file at hand has them

    def listed(self, folder: str, names: Sequence[str]) -> None:
        """A folder's children in the origin's order."""
        self._listings[folder] = names
        self._listings.move_to_end(folder)
        self._ranks.pop(folder, None)
        if len(self._listings) > _MOST_LISTINGS:
            gone, _ = self._listings.popitem(last=False)
            self._ranks.pop(gone, None)

    def access(
        self, access: Access, unit: UnitState, cost: OriginCost, share: int, free_bytes: float
    ) -> Sequence[Prefetch]:
        """What to fetch now.

        Args:
            share: bytes that the unit may have; free_bytes: that nobody has.
        """
        path, offset, length, stream, now_s, file_bytes = access[:6]
        block = self._block_bytes
        first = offset // block
        end = min(max(offset + length - 1, 0), max(file_bytes - 1, 0)) // block + 1
        num_blocks = -(-file_bytes // block)
        self._piece_bytes = max(1, min(block, file_bytes))
        found: list[Prefetch] = []
        is_scattered = unit.path == path and unit.verdict in (Verdict.RANDOM, Verdict.SKEWED)
        if num_blocks > 1 and not is_scattered:
            most = self._most_window(cost, max(share, int(free_bytes)))
            ahead = self._read_ahead.access(stream, path, first, end, num_blocks, most)
            if ahead is not None:
                found += self._ask(unit, path, *ahead, now_s)
        if unit.path == path or not unit.path:
            return found
        # A file that just begins.
        if unit.verdict == Verdict.SEQUENTIAL:
            found += self._next_files(unit, path, stream >> 32, num_blocks, now_s)
        elif unit.verdict == Verdict.SKEWED and first == 0:
            for other in self._siblings.access(stream >> 32, path):
                found += self._ask(unit, other, 0, num_blocks, now_s)
        elif unit.verdict == Verdict.RANDOM and not unit.is_filled:
            missing = unit.data_bytes - unit.eviction.used_bytes
            if 0 < unit.data_bytes <= share or missing <= free_bytes:
                found += self._fill(unit, num_blocks, now_s)
        return found

    def _most_window(self, cost: OriginCost, room: int) -> int:
        """Blocks that the origin gives in two round trips, if a quarter of the room has them."""
        flight = int(cost.flight_bytes / self._block_bytes)
        most = min(max(flight, _LEAST_MOST_WINDOW), _MOST_WINDOW)
        return max(0, min(most, room // 4 // self._block_bytes))

    def _ask(
        self, unit: UnitState, path: str, first: int, end: int, now_s: float
    ) -> list[Prefetch]:
        """As many of the blocks as the budget has room for, in one piece, from the first on that is
        not here."""
        while first < end and self._is_here(Block(path, first)):
            first += 1
        last = first
        while last < end and unit.budget.ask(Block(path, last), self._piece_bytes, now_s):
            last += 1
        return [Prefetch(path, first, last)] if last > first else []

    def _next_files(
        self, unit: UnitState, path: str, reader: int, num_blocks: int, now_s: float
    ) -> list[Prefetch]:
        folder, _, name = path.rpartition("/")
        rank = self._rank(folder, name)
        if rank is None:
            return []
        stride = unit.facts.stride if unit.facts and unit.facts.stride else 1
        per_file = max(1, num_blocks)
        most = min(_MOST_FILES, int(unit.budget.left_bytes // (per_file * self._piece_bytes)))
        names = self._listings[folder]
        found: list[Prefetch] = []
        for other in self._folder_ahead.access(reader, folder, rank, stride, names, most):
            found += self._ask(unit, f"{folder}/{other}", 0, per_file, now_s)
        return found

    def _rank(self, folder: str, name: str) -> int | None:
        names = self._listings.get(folder)
        if names is None:
            return None
        if folder not in self._ranks:
            self._ranks[folder] = {name: rank for rank, name in enumerate(names)}
        return self._ranks[folder].get(name)

    def _fill(self, unit: UnitState, num_blocks: int, now_s: float) -> list[Prefetch]:
        if unit.path not in self._fills:
            self._fills[unit.path] = Fill(unit.path, self._listings)
        fill = self._fills[unit.path]
        found: list[Prefetch] = []
        per_file = max(1, num_blocks)
        room = int(unit.budget.left_bytes // (per_file * self._piece_bytes))
        for other in fill.next(min(_FILL_AT_ONCE, room)) if room > 0 else ():
            for number in range(per_file):
                unit.budget.ask(Block(other, number), self._piece_bytes, now_s)
            found.append(Prefetch(other, 0, _WHOLE, is_background=True))
        if room > 0 and fill.is_done:
            unit.is_filled = True
            del self._fills[unit.path]
        return found
