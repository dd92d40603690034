"""Which tokens of a stream that outgrows the context window are dropped. No I/O, no clock.

After AttentionStore (section 3.4): when the window is full, the oldest half of it goes and the rest
moves to the front. A stream of tokens is thus cut again and again, always at the same places: where
depends on its length alone, so a conversation that is sent again with a turn more is cut as before
until the next overflow.

Ours: cuts lie between blocks, the first blocks may be kept as attention sinks (StreamingLLM,
2309.17453), and a window is whole blocks.
"""

import math
from dataclasses import dataclass

_OLDEST_SHARE = 0.5
"""Of the blocks behind the sinks: what a full window drops (the paper's ratio)."""
_MOST_WINDOWS = 64
"""A longer stream than so many windows is refused: its tokens are kept and named."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """Cuts of a stream that is read through a window.

    Cut 0 is the beginning; cut c is what the window holds after c overflows: the sinks, and what
    stands behind the dropped blocks.

    Attributes:
        window_blocks: blocks of the window; sink_blocks: of these, the first ones that stay.
        step_blocks: what one overflow drops.
    """

    block_size_tokens: int
    window_blocks: int
    sink_blocks: int
    step_blocks: int

    @classmethod
    def of_window(
        cls,
        window_tokens: int,
        block_size_tokens: int,
        sink_tokens: int = 0,
        ratio: float = _OLDEST_SHARE,
    ) -> "Truncation":
        """For windows of at most so many tokens that keep the first `sink_tokens`, both in whole
        blocks.

        Raises:
            ValueError: no two blocks are left behind the sinks, one to drop and one to keep.
        """
        window = window_tokens // block_size_tokens
        sinks = -(-sink_tokens // block_size_tokens)
        if window - sinks < 2:
            raise ValueError(
                f"a window of {window_tokens} tokens that keeps the first {sink_tokens} has no two "
                f"blocks of {block_size_tokens} tokens behind them: one is to go and one to stay"
            )
        step = min(max(math.ceil(ratio * (window - sinks)), 1), window - sinks - 1)
        return cls(block_size_tokens, window, sinks, step)

    @property
    def window_tokens(self) -> int:
        """Tokens that the window holds."""
        return self.window_blocks * self.block_size_tokens

    @property
    def sink_tokens(self) -> int:
        """Tokens that are never dropped."""
        return self.sink_blocks * self.block_size_tokens

    @property
    def longest_stream(self) -> int:
        """Tokens of a prompt and its answer at most, dropped ones included."""
        return _MOST_WINDOWS * self.window_tokens

    @property
    def turned_blocks(self) -> int:
        """What an overflow keeps, sinks apart: blocks that move to new positions."""
        return self.window_blocks - self.sink_blocks - self.step_blocks

    def cut(self, num_tokens: int) -> int:
        """How often a stream of `num_tokens` has overflowed when all of them are computed."""
        over = num_tokens - self.window_tokens
        return max(-(-over // (self.step_blocks * self.block_size_tokens)), 0)

    def most_tokens(self, num_prompt_tokens: int, max_tokens: int | None) -> int:
        """Prompt plus output at which an answer ends. Without `max_tokens`, where the window is
        full after one overflow more: there is room at least for what one overflow drops."""
        if max_tokens is None:
            most = self.end(self.cut(num_prompt_tokens) + 1)
        else:
            most = num_prompt_tokens + max_tokens
        return min(most, self.longest_stream)

    def dropped_blocks(self, cut: int) -> int:
        """How many blocks behind the sinks are gone at a cut."""
        return cut * self.step_blocks

    def dropped_tokens(self, cut: int) -> int:
        """How many tokens behind the sinks are gone at a cut."""
        return self.dropped_blocks(cut) * self.block_size_tokens

    def end(self, cut: int) -> int:
        """Length of the longest stream that ends at this cut."""
        return self.window_tokens + self.dropped_tokens(cut)

    def entries(self, num_tokens: int) -> range:
        """The cuts from which a stream of `num_tokens` may be gone on with, best first: at earlier
        ones the window ends before what the last cut computes from its text alone."""
        last = self.cut(num_tokens)
        within = (self.window_blocks - self.sink_blocks - 1) // self.step_blocks
        return range(last, max(last - within, 0) - 1, -1)
