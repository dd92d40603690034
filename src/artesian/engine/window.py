"""What of a long stream a sequence sees, and what its blocks are called."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artesian.context.policies import Truncation
from artesian.kvcache.hashing import BlockHasher, window_name


@dataclass(slots=True)
class Window:
    """A place in a stream that is truncated.

    Attributes:
        start, cut: see `window_name`; KV of the window is a function of them and of the tokens.
        untruncated: names that the stream's blocks would have if nothing had been dropped.
    """

    truncation: Truncation
    hasher: BlockHasher
    start: int
    cut: int
    untruncated: list[bytes]

    @property
    def has_moved(self) -> bool:
        """Whether some of it can only come from the window before: KV that saw what was dropped."""
        return self.start < self.cut

    def is_same(self, other: "Window") -> bool:
        """Whether both show the same of the same stream."""
        return (self.start, self.cut) == (other.start, other.cut)

    def num_tokens(self, num_stream_tokens: int) -> int:
        """How many tokens of such a stream stand in the window and behind it."""
        return num_stream_tokens - self.truncation.dropped_tokens(self.cut)

    def next(self) -> "Window":
        """What it is behind the next overflow."""
        return Window(self.truncation, self.hasher, self.start, self.cut + 1, self.untruncated)

    def name(self, index: int) -> bytes:
        """Name of the window's block `index`."""
        cuts = self.truncation
        if self.cut == 0 or index < cuts.sink_blocks:
            return self.untruncated[index]
        return window_name(
            self.untruncated[index + cuts.dropped_blocks(self.cut)],
            window=cuts.window_blocks,
            sinks=cuts.sink_blocks,
            step=cuts.step_blocks,
            start=self.start,
            cut=self.cut,
        )

    def extend(self, hashes: list[bytes], token_ids: npt.NDArray[np.int32]) -> None:
        """Appends to `hashes`, the names of the window's first blocks, those of its other full
        blocks."""
        size = self.truncation.block_size_tokens
        dropped = self.truncation.dropped_blocks(self.cut)
        for index in range(len(hashes), len(token_ids) // size):
            if index + dropped == len(self.untruncated):
                tokens = token_ids[index * size : (index + 1) * size]
                self.untruncated.append(self.hasher.block_hash(self.untruncated[-1], tokens))
            hashes.append(self.name(index))
