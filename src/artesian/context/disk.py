"""KV blocks in files that the processes of a host share; `crates/tier` moves them."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from artesian._core import BlockMover, LayerGate
from artesian.context.base import ContextCacheError, Done, Entry, Load, Outcome
from artesian.kvcache.base import BlockAllocator

_NUM_THREADS = 2
_SEGMENT_BYTES = 256 << 20
_MIN_SEGMENTS = 8
"""So many make up the capacity at least: what is deleted leaves a page until its segment goes."""
_PAGE_BYTES = 4096
"""Blocks take whole ones, and one more each (`crates/tier`)."""
_SEGMENT_BLOCKS = 4
"""A segment holds so many blocks at least."""
_MIN_STAGE_BYTES = 64 << 10
"""So many bytes of a block are read at once at least: several layers, if need be."""


class DiskTier:
    """A `Tier` that survives restarts."""

    label = "disk"

    def __init__(
        self,
        path: Path,
        capacity_bytes: int,
        arena: BlockAllocator,
        most_saving_bytes: int,
        bytes_per_s: float | None = None,
    ) -> None:
        """Opens `path`, or makes it.

        Args:
            most_saving_bytes: blocks that may wait to be saved.
            bytes_per_s: be as slow as a disk that reads and writes so much, to see what it does.

        Raises:
            OSError: the system refused.
            ContextCacheError: the directory holds something else, or the capacity no block.
        """
        self.capacity_bytes = capacity_bytes
        self._block_bytes = arena.block_bytes
        layer_bytes = arena.block_bytes // arena.num_layers
        self._stage_bytes = -(-_MIN_STAGE_BYTES // layer_bytes) * layer_bytes
        self.room_bytes = (1 - -arena.block_bytes // _PAGE_BYTES) * _PAGE_BYTES
        segment_bytes = min(_SEGMENT_BYTES, capacity_bytes // _MIN_SEGMENTS)
        segment_bytes = max(segment_bytes, _SEGMENT_BLOCKS * self.room_bytes)
        try:
            self._mover = BlockMover(
                path,
                capacity_bytes,
                segment_bytes,
                layer_bytes,
                arena.memory,
                _NUM_THREADS,
                most_saving_bytes,
                bytes_per_s,
            )
        except ValueError as error:
            raise ContextCacheError(str(error)) from None

    @property
    def used_bytes(self) -> int:
        """See `Tier`."""
        return self._mover.used_bytes

    @property
    def num_open(self) -> int:
        """See `Tier`."""
        return self._mover.num_open

    def find(self, names: Sequence[bytes]) -> int:
        """See `Tier`."""
        return self._mover.find(names)

    def save(self, name: bytes, block: int) -> int | None:
        """See `Tier`."""
        return self._mover.save(name, block * self._block_bytes, self._block_bytes)

    def load(self, names: Sequence[bytes], blocks: Sequence[int]) -> Load:
        """See `Tier`."""
        places = [(n, block * self._block_bytes) for n, block in zip(names, blocks, strict=True)]
        return Load(*self._mover.load(places, self._block_bytes, self._stage_bytes))

    def cancel(self, load: Load) -> None:
        """See `Tier`."""
        if isinstance(load.gate, LayerGate):
            self._mover.cancel(load.gate)

    def remove(self, name: bytes) -> int:
        """See `Tier`."""
        return self._mover.remove(name)

    def poll(self) -> list[Done]:
        """See `Tier`."""
        polled = self._mover.poll()
        return [Done(ticket, cast(Outcome, outcome), took_s) for ticket, outcome, took_s in polled]

    def wait(self, timeout_s: float) -> bool:
        """See `Tier`."""
        return self._mover.wait(timeout_s)

    def entries(self) -> list[Entry]:
        """See `Tier`."""
        found = self._mover.entries()
        return [Entry(name, num_bytes, saved_ms / 1e3) for name, num_bytes, saved_ms in found]

    def take_error(self) -> str | None:
        """See `Tier`."""
        return self._mover.take_error()
