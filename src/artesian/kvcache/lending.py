"""Which blocks are lent, whatever memory they lie in."""

from artesian.kvcache.base import OutOfBlocksError


class BlockLender:
    """Lends numbers of blocks. Freed blocks are lent again before blocks that were never used: the
    memory that is backed grows only as far as sequences and cached prefixes need.
    """

    def __init__(self, num_blocks: int, block_bytes: int, num_layers: int = 1) -> None:
        if num_blocks < 1 or block_bytes < 1:
            raise ValueError(f"arena needs blocks and bytes, got {num_blocks} x {block_bytes}")
        if num_layers < 1 or block_bytes % num_layers:
            raise ValueError(f"blocks of {block_bytes} bytes do not have {num_layers} equal layers")
        self.num_blocks = num_blocks
        self.num_layers = num_layers
        self.block_bytes = block_bytes
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
