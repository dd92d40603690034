"""Other caches of files for the simulation: one policy for all, or JuiceFS's rule."""

import random
from collections.abc import Callable, Iterator, Sequence

import libcachesim

from artesian.files import Access, Block, Prefetch
from artesian.files.lru import LruAdvisor
from artesian.files.policies import ReadAhead
from artesian.sim.files import AdvisedCache, FileCache

LIBRARY = ("LRU", "ARC", "S3FIFO", "LeCaR")


class LibraryCache:
    """A policy of libcachesim: nothing is fetched ahead, blocks take their room when asked for."""

    def __init__(self, name: str, capacity_bytes: int) -> None:
        self._cache = getattr(libcachesim, name)(capacity_bytes)
        self._numbers: dict[Block, int] = {}

    def access(self, access: Access, blocks: Sequence[tuple[Block, int]]) -> Sequence[bool]:
        found = []
        for block, size in blocks:
            request = libcachesim.Request()
            request.obj_id = self._numbers.setdefault(block, len(self._numbers) + 1)
            request.obj_size = size
            found.append(bool(self._cache.get(request)))
        return found

    def ahead(self) -> Sequence[Prefetch]:
        return ()

    def holds(self, block: Block) -> bool:
        return False

    def wants(self, block: Block, num_bytes: int, now_s: float) -> bool:
        return False

    def arrived(self, block: Block, num_bytes: int, now_s: float, *, is_prefetch: bool) -> None:
        pass

    def fetched(self, path: str, num_bytes: int, took_s: float) -> None:
        pass

    def listed(self, folder: str, names: Sequence[str]) -> None:
        pass


class Partitioned(LibraryCache):
    """The same room, with LRU, for each top folder of the bucket."""

    def __init__(self, capacity_bytes: int, num_parts: int) -> None:
        self._parts: dict[str, LibraryCache] = {}
        self._part_bytes = capacity_bytes // num_parts

    def access(self, access: Access, blocks: Sequence[tuple[Block, int]]) -> Sequence[bool]:
        top = access.path.split("/")[3]
        if top not in self._parts:
            self._parts[top] = LibraryCache("LRU", self._part_bytes)
        return self._parts[top].access(access, blocks)


class JuiceFsRule(LruAdvisor):
    """Readahead that doubles from one block on, and of two random blocks the older one goes."""

    def __init__(self, capacity_bytes: int, block_bytes: int) -> None:
        super().__init__(capacity_bytes, block_bytes)
        self._size = block_bytes
        self._read_ahead = ReadAhead()
        self._dice = random.Random(1)
        self._used_s: dict[Block, float] = {}
        self._blocks: list[Block] = []

    def access(self, access: Access, *, is_ours: bool = True) -> Sequence[Prefetch]:
        first = access.offset // self._size
        end = max(first, (access.offset + access.length - 1) // self._size) + 1
        for number in range(first, end):
            block = Block(access.path, number)
            if block in self._used_s:
                self._used_s[block] = access.time_s
        num_blocks = -(-access.file_bytes // self._size)
        # Its buffer of 300 MiB bounds what is read ahead.
        window = self._read_ahead.access(access.stream, access.path, first, end, num_blocks, 32)
        return () if window is None else (Prefetch(access.path, *window),)

    def stored(self, block: Block, num_bytes: int, now_s: float, *, is_ours: bool = True) -> None:
        if block not in self._used_s:
            self._blocks.append(block)
        self._used_s[block] = now_s

    def removed(self, block: Block, now_s: float) -> None:
        self._used_s.pop(block, None)

    def victims(self, num_bytes: int, now_s: float) -> Iterator[Block]:
        while self._blocks:
            pair = [self._dice.randrange(len(self._blocks)) for _ in range(2)]
            place = min(pair, key=lambda i: self._used_s.get(self._blocks[i], 0.0))
            self._blocks[place], last = self._blocks[-1], self._blocks[place]
            self._blocks.pop()
            yield last


def peers(block_bytes: int) -> dict[str, Callable[[int], FileCache]]:
    """Caches by name, of a capacity in bytes."""
    found: dict[str, Callable[[int], FileCache]] = {}
    for name in LIBRARY:
        found[name] = lambda capacity, name=name: LibraryCache(name, capacity)  # type: ignore[misc]
    found["JuiceFS's rule"] = lambda capacity: AdvisedCache(
        JuiceFsRule(capacity, block_bytes), capacity
    )
    found["static parts"] = lambda capacity: Partitioned(capacity, 5)
    return found
