"""Where KV blocks live."""

from typing import Protocol

import numpy as np
import numpy.typing as npt


class OutOfBlocksError(RuntimeError):
    """No KV block is free; preempt a sequence or wait."""


class LandingError(ValueError):
    """A landing that cannot be written to; the message says why."""


class BlockAllocator(Protocol):
    """Lends blocks of KV memory by number. It knows nothing of their contents.

    Attributes:
        num_layers: equal parts of a block, one behind the other, that are used one after the other.
        memory: uint8 (num_blocks * block_bytes,), writable; block b starts at b * block_bytes.
    """

    num_blocks: int
    num_layers: int
    block_bytes: int
    memory: npt.NDArray[np.uint8]

    @property
    def num_free_blocks(self) -> int:
        """Blocks that `allocate` can still give."""

    def allocate(self) -> int:
        """The number of a free block; its bytes are arbitrary. Raises `OutOfBlocksError`."""

    def free(self, block: int) -> None:
        """Takes a block back. Raises `ValueError` when it is not lent."""
