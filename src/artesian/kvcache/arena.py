"""KV blocks in anonymous memory of this process."""

import contextlib
import mmap

import numpy as np

from artesian.kvcache.base import OutOfBlocksError

_ALIGNMENT_BYTES = 2 << 20  # a huge page, so that the kernel can back the arena with them


class Arena:
    """A `BlockAllocator` over one anonymous mapping.

    Pages are backed only once they are written. Freed blocks are lent again before blocks that were
    never used: the process grows only as far as its sequences and cached prefixes need.
    """

    def __init__(self, num_blocks: int, block_bytes: int, num_layers: int = 1) -> None:
        if num_blocks < 1 or block_bytes < 1:
            raise ValueError(f"arena needs blocks and bytes, got {num_blocks} x {block_bytes}")
        if num_layers < 1 or block_bytes % num_layers:
            raise ValueError(f"blocks of {block_bytes} bytes do not have {num_layers} equal layers")
        self.num_blocks = num_blocks
        self.num_layers = num_layers
        self.block_bytes = block_bytes
        num_bytes = num_blocks * block_bytes
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # shared mappings get no huge pages
        self._mapping = mmap.mmap(-1, num_bytes + _ALIGNMENT_BYTES, flags=private)
        with contextlib.suppress(AttributeError, OSError):  # only a hint; absent on some kernels
            self._mapping.madvise(mmap.MADV_HUGEPAGE)
        whole = np.frombuffer(self._mapping, dtype=np.uint8)
        offset = -whole.ctypes.data % _ALIGNMENT_BYTES
        self.memory = whole[offset : offset + num_bytes]
        self._lent = bytearray(num_blocks)
        self._freed: list[int] = []
        self._next_unused = 0

    @property
    def num_free_blocks(self) -> int:
        """Blocks that `allocate` can still give."""
        return len(self._freed) + self.num_blocks - self._next_unused

    def allocate(self) -> int:
        """The number of a free block; its bytes are arbitrary. Raises `OutOfBlocksError`."""
        if self._freed:
            block = self._freed.pop()
        elif self._next_unused < self.num_blocks:
            block = self._next_unused
            self._next_unused += 1
        else:
            raise OutOfBlocksError(f"all {self.num_blocks} KV blocks are in use")
        self._lent[block] = 1
        return block

    def free(self, block: int) -> None:
        """Takes a block back. Raises `ValueError` when it is not lent."""
        if not 0 <= block < self.num_blocks or not self._lent[block]:
            raise ValueError(f"block {block} is not lent")
        self._lent[block] = 0
        self._freed.append(block)
