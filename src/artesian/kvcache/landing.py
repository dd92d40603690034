"""KV that peers write into this worker's arena while they compute it, and the other way round.

The owner of an arena opens a landing, a slot of control words in its region, and sends its number
and generation to a peer. The peer writes blocks, in sections of a layer, and says that all is
there. The owner takes the blocks back when it likes: at once, or, if the peer is just writing,
when it has seen that it must stop or is dead (`is_quiet`).
"""

import logging
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from artesian import _core
from artesian.kvcache.base import LandingError
from artesian.kvcache.region import RegionArena
from artesian.ops.base import KvLayout

_logger = logging.getLogger(__name__)

LandingState = Literal["free", "open", "writing", "complete", "failed", "quarantined", "revoked"]
"""`open`: nobody has taken it up; `failed`: its writer gave up; `quarantined`: taken back, but its
writer may still be writing; `revoked`: taken back, and nobody writes."""


class Ticket(Protocol):
    """Where to write; see `artesian.engine.handover.LandingTicket`."""

    @property
    def region(self) -> str:
        """Name of the owner's region."""

    @property
    def slot(self) -> int:
        """Of the landing."""

    @property
    def generation(self) -> int:
        """Of the slot."""

    @property
    def first_block(self) -> int:
        """The prompt's block that goes to `blocks[0]`."""

    @property
    def blocks(self) -> list[int]:
        """Of the owner's arena."""


class RegionPad:
    """The landings in a worker's own arena; see `LandingPad` of `artesian.engine.handover`.

    Raises:
        ValueError: the arena was closed. `OSError` of all methods: it was removed by another.
    """

    def __init__(self, arena: RegionArena) -> None:
        self._name = arena.name
        self._native = _core.LandingPad(arena.region)

    @property
    def name(self) -> str:
        """By which peers find the memory."""
        return self._name

    @property
    def num_lent(self) -> int:
        """Landings that are not released."""
        return self._native.num_lent

    def open(self) -> tuple[int, int] | None:
        """A slot and its generation; None when all are in use."""
        return self._native.open()

    def revoke(self, slot: int) -> bool:
        """Takes a landing back. Whether nobody writes any more; if not, `is_quiet` will say so.
        Raises `ValueError` for a slot that is not lent."""
        return self._native.revoke(slot)

    def is_quiet(self, slot: int) -> bool:
        """Whether nobody writes there any more: it is complete, or was given up, or was taken back
        and its writer has seen it or is dead."""
        return self._native.is_quiet(slot)

    def is_complete(self, slot: int) -> bool:
        """Whether all is written."""
        return self.state(slot) == "complete"

    def state(self, slot: int) -> LandingState:
        """What has become of a landing."""
        return self._native.state(slot)

    def progress(self, slot: int) -> tuple[int, int, int]:
        """Sections and bytes that its writer has written, and the layer of the last one."""
        return self._native.progress(slot)

    def idle_s(self, slot: int) -> float:
        """How long nothing has been seen to happen; to be asked now and then."""
        return self._native.idle_s(slot)

    def release(self, slot: int) -> None:
        """Gives a slot back. Raises `ValueError` while somebody may write there."""
        self._native.release(slot)


class RegionWriter:
    """Writes a prompt's KV into a peer's arena; see `LandingWriter` of `artesian.engine.handover`.

    Attributes:
        native: what programs write to.
    """

    def __init__(self, native: _core.LandingWriter) -> None:
        self.native = native

    @property
    def num_bytes(self) -> int:
        """Written so far."""
        return self.native.num_bytes

    @property
    def is_open(self) -> bool:
        """Whether the peer still wants it."""
        return self.native.is_open

    def push_blocks(self, blocks: Sequence[int], first: int) -> None:
        """Writes whole blocks of this worker's arena as the prompt's block `first` and those behind
        it; what the ticket does not ask for is left out. Raises `ValueError` for unknown blocks."""
        self.native.push_blocks(list(blocks), first)

    def complete(self) -> None:
        """All is written. If it is not, the landing fails instead, and the owner sees that."""
        if not self.native.complete():
            _logger.warning("a landing is not complete: some of it is missing, or it was revoked")

    def close(self) -> None:
        """Nothing more is written; what is not complete has failed."""
        self.native.close()


class PeerArenas:
    """Opens landings in the arenas of peers.

    Args:
        memory: of the own arena.
        layout, fingerprint: of the own blocks; peers have the same, or are refused.
        num_threads: that write at once.
    """

    def __init__(
        self,
        memory: npt.NDArray[np.uint8],
        layout: KvLayout,
        fingerprint: str,
        num_threads: int = 1,
    ) -> None:
        self._memory = memory
        self._layout = _core.KvLayout(
            layout.num_layers,
            layout.num_kv_heads,
            layout.head_dim,
            layout.block_size_tokens,
            layout.dtype,
            layout.summaries,
        )
        self._fingerprint = fingerprint
        self._num_threads = num_threads

    def open_writer(self, ticket: Ticket) -> RegionWriter:
        """Takes a landing up.

        Raises:
            LandingError: it is over, has a writer, or the peer's blocks are of another kind.
            OSError: there is no such region any more.
        """
        try:
            native = _core.LandingWriter(
                ticket.region,
                self._fingerprint,
                ticket.slot,
                ticket.generation,
                ticket.first_block,
                ticket.blocks,
                self._layout,
                self._memory,
                self._num_threads,
            )
        except (ValueError, OverflowError) as error:
            raise LandingError(str(error)) from None
        return RegionWriter(native)
