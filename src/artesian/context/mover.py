"""What tiers have in common whose blocks `crates/tier` moves, in threads of its own."""

from collections.abc import Sequence
from typing import cast

from artesian._core import BlockMover, LayerGate
from artesian.context.base import Done, Entry, Load, Move, Outcome, Tier
from artesian.kvcache.base import BlockAllocator

_MIN_STAGE_BYTES = 128 << 10
"""So many bytes of a block are loaded at once at least: several layers, if need be. What it costs a
disk to read blocks in pieces is measured by `benchmarks/overlap.py`."""


class MoverTier:
    """A `Tier` over a mover. Subclasses open the store."""

    def __init__(
        self,
        label: str,
        mover: BlockMover,
        capacity_bytes: int,
        room_bytes: int,
        arena: BlockAllocator,
    ) -> None:
        layer_bytes = arena.block_bytes // arena.num_layers
        self._stage_bytes = -(-_MIN_STAGE_BYTES // layer_bytes) * layer_bytes
        self.block_bytes = arena.block_bytes
        self.label = label
        self.capacity_bytes = capacity_bytes
        self.room_bytes = room_bytes
        self._mover = mover

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
        return self._mover.save(name, block * self.block_bytes, self.block_bytes)

    def copy(self, name: bytes, source: Tier) -> int | None:
        """See `Tier`."""
        if not isinstance(source, MoverTier):
            raise TypeError(f"the {self.label} tier cannot copy blocks of the {source.label} tier")
        return self._mover.copy(name, self.block_bytes, source._mover)

    def load(self, names: Sequence[bytes], blocks: Sequence[int]) -> Load:
        """See `Tier`."""
        places = [(n, block * self.block_bytes) for n, block in zip(names, blocks, strict=True)]
        return Load(*self._mover.load(places, self.block_bytes, self._stage_bytes))

    def cancel(self, load: Load) -> None:
        """See `Tier`."""
        if isinstance(load.gate, LayerGate):
            self._mover.cancel(load.gate)

    def set_trace(self, is_on: bool) -> None:
        """Begins, or ends, to note when which bytes move."""
        self._mover.set_trace(is_on)

    def take_trace(self) -> list[Move]:
        """What was noted since the last call."""
        return [Move(*move) for move in self._mover.take_trace()]

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
