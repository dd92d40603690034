"""KV blocks in anonymous memory of this process."""

import contextlib
import mmap

import numpy as np

from artesian.kvcache.lending import BlockLender

_ALIGNMENT_BYTES = 2 << 20  # a huge page, so that the kernel can back the arena with them


class Arena(BlockLender):
    """A `BlockAllocator` over one anonymous mapping, whose pages are backed once written."""

    def __init__(self, num_blocks: int, block_bytes: int, num_layers: int = 1) -> None:
        super().__init__(num_blocks, block_bytes, num_layers)
        num_bytes = num_blocks * block_bytes
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # shared mappings get no huge pages
        self._mapping = mmap.mmap(-1, num_bytes + _ALIGNMENT_BYTES, flags=private)
        with contextlib.suppress(AttributeError, OSError):  # only a hint; absent on some kernels
            self._mapping.madvise(mmap.MADV_HUGEPAGE)
        whole = np.frombuffer(self._mapping, dtype=np.uint8)
        offset = -whole.ctypes.data % _ALIGNMENT_BYTES
        self.memory = whole[offset : offset + num_bytes]
