"""KV blocks with names: equal prefixes are computed once and shared.

Invariants: a named block's parent is named too; whoever holds a block holds all its ancestors. So
the order in which blocks fall idle, children before parents, is an eviction order that takes leaves
first.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from artesian.kvcache.base import BlockAllocator, OutOfBlocksError

MissReason = Literal["none", "never stored", "evicted"]


@dataclass(slots=True)
class PrefixCacheStats:
    """Counters that only grow."""

    queries_tokens: int = 0
    hits_tokens: int = 0
    num_evicted_blocks: int = 0


@dataclass(frozen=True, slots=True)
class PrefixMiss:
    """Why a prefix was not found whole: the first block that is not cached, and what became of
    it."""

    block_index: int
    num_blocks: int
    reason: MissReason

    def __str__(self) -> str:
        if self.reason == "none":
            return f"all {self.num_blocks} blocks are cached"
        return f"block {self.block_index} of {self.num_blocks} was {self.reason}"


class PrefixCache:
    """Lends blocks with reference counts and keeps idle named ones until room is needed."""

    def __init__(self, allocator: BlockAllocator) -> None:
        self.allocator = allocator
        self.num_blocks = allocator.num_blocks
        self.stats = PrefixCacheStats()
        self._num_refs = [0] * self.num_blocks
        self._hash_of: list[bytes | None] = [None] * self.num_blocks
        self._block_of: dict[bytes, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # next to evict first
        self._evicted: OrderedDict[bytes, None] = OrderedDict()  # to explain misses

    @property
    def num_available_blocks(self) -> int:
        """Blocks that `allocate` can give, by evicting if need be."""
        return self.allocator.num_free_blocks + len(self._idle)

    @property
    def num_used_blocks(self) -> int:
        """Blocks that somebody holds."""
        return self.num_blocks - self.num_available_blocks

    @property
    def num_cached_blocks(self) -> int:
        """Blocks that can be found by name."""
        return len(self._block_of)

    def __contains__(self, block_hash: bytes) -> bool:
        return block_hash in self._block_of

    def lookup(self, hashes: Sequence[bytes]) -> list[int]:
        """Blocks of the longest cached beginning of `hashes`; takes no references."""
        blocks = []
        for block_hash in hashes:
            block = self._block_of.get(block_hash)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def explain_miss(self, hashes: Sequence[bytes]) -> PrefixMiss:
        """Why `lookup` would not return all of `hashes`."""
        index = len(self.lookup(hashes))
        if index == len(hashes):
            return PrefixMiss(index, len(hashes), "none")
        reason: MissReason = "evicted" if hashes[index] in self._evicted else "never stored"
        return PrefixMiss(index, len(hashes), reason)

    def num_idle(self, blocks: Sequence[int]) -> int:
        """How many of `blocks` nobody holds."""
        return sum(self._num_refs[block] == 0 for block in blocks)

    def num_sole(self, blocks: Sequence[int]) -> int:
        """How many of `blocks` have one holder: they would be available without it."""
        return sum(self._num_refs[block] == 1 for block in blocks)

    def acquire(self, blocks: Sequence[int]) -> None:
        """Takes a reference on each of `blocks`, as `lookup` returned them."""
        for block in blocks:
            if self._num_refs[block] == 0:
                del self._idle[block]
            self._num_refs[block] += 1

    def allocate(self) -> int:
        """A nameless block with one reference. Evicts if need be; raises `OutOfBlocksError`."""
        if not self.allocator.num_free_blocks:
            self._evict_one()
        block = self.allocator.allocate()
        self._num_refs[block] = 1
        return block

    def name(self, block: int, block_hash: bytes) -> int:
        """Makes a full block findable; the caller holds it and the named block of its parent.

        Returns the block to use from now on: when another one already holds the same content, that
        one takes over the caller's reference, and `block` is free again unless others hold it who
        will name it too.
        """
        known = self._block_of.get(block_hash)
        if known is not None and known != block:
            self.acquire([known])
            self._num_refs[block] -= 1
            if self._num_refs[block] == 0:
                self.allocator.free(block)
            return known
        self._block_of[block_hash] = block
        self._hash_of[block] = block_hash
        self._evicted.pop(block_hash, None)
        return block

    def release(self, blocks: Sequence[int], keep_named: bool = True) -> None:
        """Gives back one reference on each of `blocks`, a sequence's first ones in order.

        Blocks that nobody holds any more stay cached if they have a name and `keep_named`.
        """
        for block in reversed(blocks):
            if self._num_refs[block] < 1:
                raise ValueError(f"block {block} is not held")
            self._num_refs[block] -= 1
            if self._num_refs[block] == 0:
                if self._hash_of[block] is None:
                    self.allocator.free(block)
                elif keep_named:
                    self._idle[block] = None
                else:
                    self._forget(block)

    def drop(self, hashes: Iterable[bytes]) -> int:
        """Drops those of these blocks that nobody holds; returns how many are still held."""
        num_held = 0
        for block_hash in hashes:
            block = self._block_of.get(block_hash)
            if block is None:
                continue
            if self._num_refs[block]:
                num_held += 1
                continue
            del self._idle[block]
            self._forget(block)
            self._evicted.pop(block_hash, None)
        return num_held

    def clear(self) -> int:
        """Drops every cached block that nobody holds; returns how many."""
        num_dropped = len(self._idle)
        while self._idle:
            block, _ = self._idle.popitem(last=False)
            self._forget(block)
        return num_dropped

    def _evict_one(self) -> None:
        if not self._idle:
            raise OutOfBlocksError(f"all {self.num_blocks} KV blocks are in use")
        block, _ = self._idle.popitem(last=False)
        block_hash = self._forget(block)
        self.stats.num_evicted_blocks += 1
        self._evicted[block_hash] = None
        if len(self._evicted) > self.num_blocks:
            self._evicted.popitem(last=False)

    def _forget(self, block: int) -> bytes:
        block_hash = self._hash_of[block]
        assert block_hash is not None
        del self._block_of[block_hash]
        self._hash_of[block] = None
        self.allocator.free(block)
        return block_hash
