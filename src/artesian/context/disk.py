"""KV blocks in files that the processes of a host share; `crates/tier` moves them."""

from pathlib import Path

from artesian._core import BlockMover
from artesian.context.base import Compression, ContextCacheError
from artesian.context.mover import MoverTier
from artesian.kvcache.base import BlockAllocator

_NUM_THREADS = 2
_SEGMENT_BYTES = 256 << 20
_MIN_SEGMENTS = 8
"""So many make up the capacity at least: what is deleted leaves a page until its segment goes."""
_PAGE_BYTES = 4096
"""Blocks take whole ones, and one more each (`crates/tier`)."""
_SEGMENT_BLOCKS = 4
"""A segment holds so many blocks at least."""


class DiskTier(MoverTier):
    """A `Tier` that survives restarts."""

    def __init__(
        self,
        path: Path,
        capacity_bytes: int,
        arena: BlockAllocator,
        most_saving_bytes: int,
        bytes_per_s: float | None = None,
        compression: Compression | None = None,
    ) -> None:
        """Opens `path`, or makes it.

        Args:
            most_saving_bytes: blocks that may wait to be saved.
            compression: how blocks are made smaller; those of others are read as they are.
            bytes_per_s: be as slow as a disk that reads and writes so much, to see what it does.

        Raises:
            OSError: the system refused.
            ContextCacheError: the directory holds something else, or the capacity no block.
        """
        layer_bytes = arena.block_bytes // arena.num_layers
        room_bytes = (1 - -arena.block_bytes // _PAGE_BYTES) * _PAGE_BYTES
        segment_bytes = min(_SEGMENT_BYTES, capacity_bytes // _MIN_SEGMENTS)
        segment_bytes = max(segment_bytes, _SEGMENT_BLOCKS * room_bytes)
        try:
            mover = BlockMover(
                path,
                capacity_bytes,
                segment_bytes,
                layer_bytes,
                arena.memory,
                _NUM_THREADS,
                most_saving_bytes,
                bytes_per_s,
                None if compression is None else (compression.codec, compression.shape),
            )
        except ValueError as error:
            raise ContextCacheError(str(error)) from None
        super().__init__("disk", mover, capacity_bytes, room_bytes, arena)
