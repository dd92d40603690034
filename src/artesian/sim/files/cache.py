"""A simulated cache of files: blocks in a room with a bound, looked after by an advisor."""

from collections.abc import Sequence
from typing import Protocol

from artesian.files.base import Access, Advisor, Block, Prefetch

_LOW_WATER = 0.99


class FileCache(Protocol):
    """What the simulation asks; blocks are told of when they are wanted, and when they arrive."""

    def access(self, access: Access, blocks: Sequence[tuple[Block, int]]) -> Sequence[bool]:
        """Blocks and their bytes are wanted; which of them are there."""

    def ahead(self) -> Sequence[Prefetch]:
        """What to fetch ahead after that."""

    def holds(self, block: Block) -> bool:
        """Whether a block is there."""

    def wants(self, block: Block, num_bytes: int, now_s: float) -> bool:
        """Whether a block that is fetched ahead would be kept."""

    def arrived(self, block: Block, num_bytes: int, now_s: float, *, is_prefetch: bool) -> None:
        """The origin gave a block."""

    def fetched(self, path: str, num_bytes: int, took_s: float) -> None:
        """A request took so long."""

    def listed(self, folder: str, names: Sequence[str]) -> None:
        """A folder's children."""


class AdvisedCache:
    """Blocks as an `Advisor` wants them, the bound kept.

    Attributes:
        most_used_bytes: what was taken at most.
    """

    def __init__(self, advisor: Advisor, capacity_bytes: int) -> None:
        self.advisor = advisor
        self.most_used_bytes = 0
        self._capacity_bytes = capacity_bytes
        self._rooms: dict[Block, int] = {}
        self._used_bytes = 0
        self._ahead: Sequence[Prefetch] = ()

    def access(self, access: Access, blocks: Sequence[tuple[Block, int]]) -> Sequence[bool]:
        """See `FileCache`."""
        found = [block in self._rooms for block, _ in blocks]
        self._ahead = self.advisor.access(access._replace(num_hits=sum(found)))
        return found

    def ahead(self) -> Sequence[Prefetch]:
        """See `FileCache`."""
        return self._ahead

    def holds(self, block: Block) -> bool:
        """See `FileCache`."""
        return block in self._rooms

    def wants(self, block: Block, num_bytes: int, now_s: float) -> bool:
        """See `FileCache`."""
        return self.advisor.admit(block, num_bytes, now_s, is_prefetch=True)

    def arrived(self, block: Block, num_bytes: int, now_s: float, *, is_prefetch: bool) -> None:
        """See `FileCache`."""
        if block in self._rooms:
            return
        is_wanted = self.advisor.admit(block, num_bytes, now_s, is_prefetch=is_prefetch)
        if not is_wanted or num_bytes > self._capacity_bytes:
            return
        over = self._used_bytes + num_bytes - self._capacity_bytes
        if over > 0:
            goal = min(self._capacity_bytes - num_bytes, int(_LOW_WATER * self._capacity_bytes))
            self._evict(goal, now_s)
        if self._used_bytes + num_bytes > self._capacity_bytes:
            return
        self._rooms[block] = num_bytes
        self._used_bytes += num_bytes
        self.most_used_bytes = max(self.most_used_bytes, self._used_bytes)
        self.advisor.stored(block, num_bytes, now_s)

    def _evict(self, goal: int, now_s: float) -> None:
        gone = []
        for block in self.advisor.victims(self._used_bytes - goal, now_s):
            if self._used_bytes <= goal:
                break
            if block in self._rooms:
                self._used_bytes -= self._rooms.pop(block)
                gone.append(block)
        for block in gone:
            self.advisor.removed(block, now_s)

    def fetched(self, path: str, num_bytes: int, took_s: float) -> None:
        """See `FileCache`."""
        self.advisor.fetched(path, num_bytes, took_s)

    def listed(self, folder: str, names: Sequence[str]) -> None:
        """See `FileCache`."""
        self.advisor.listed(folder, names)
