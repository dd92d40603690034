"""Reads a stream through a window token by token, over the toy model: the slow obvious twin."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from artesian.context.policies import Truncation
from artesian.engine.batch import Batch
from artesian.engine.engine import LLMEngine
from tests.engine.toy import EOS, ToyRunner, make_engine

BLOCK = 4
WINDOW = 48


def make(sinks: int = 0, **config: Any) -> LLMEngine:
    """An engine with such a window."""
    return make_engine(
        max_model_len=WINDOW + 1,
        context_overflow="truncate",
        context_sinks=sinks,
        **config,
    )


class Reader:
    """Reads a stream token by token into one row of blocks, moving them up when they are full."""

    def __init__(self, sinks: int) -> None:
        self.cuts = Truncation.of_window(WINDOW, BLOCK, sinks)
        self.runner = ToyRunner(np.zeros(2 * WINDOW * 8, np.uint8), BLOCK)
        self.position = 0
        self.num_cuts = 0

    def read(self, token: int) -> int:
        """The most likely next token."""
        if self.position == WINDOW:
            self._move()
        batch = Batch(
            tokens=np.array([token], np.int32),
            positions=np.array([self.position], np.int32),
            row_starts=np.array([0, 1], np.int32),
            context_lens=np.array([self.position + 1], np.int32),
            block_tables=np.arange(WINDOW // BLOCK, dtype=np.int32)[None],
            logit_rows=np.array([0], np.int32),
        )
        self.position += 1
        return int(self.runner.forward(batch).argmax())

    def _move(self) -> None:
        cuts, num_blocks = self.cuts, WINDOW // BLOCK
        kept = list(range(cuts.sink_blocks + cuts.step_blocks, num_blocks))
        spare = list(range(num_blocks, num_blocks + len(kept)))
        self.runner.turn(kept, spare, -cuts.step_blocks * BLOCK)
        first = cuts.sink_blocks
        self.runner.words[first : first + len(kept)] = self.runner.words[spare]
        self.position = (first + len(kept)) * BLOCK
        self.num_cuts += 1


def expected(
    prompt: Sequence[int], num_tokens: int, sinks: int, is_cold: bool = False, start: int = 0
) -> list[int]:
    """The answer to a prompt that was read from its beginning, from what the cut `start` leaves of
    it, or, cold, from what the last cut leaves."""
    reader = Reader(sinks)
    cuts, stream = reader.cuts, list(prompt)
    start = cuts.cut(len(stream)) if is_cold else start
    end = cuts.sink_tokens + cuts.dropped_tokens(start)
    for token in stream[: cuts.sink_tokens] + stream[end:]:
        following = reader.read(token)
    answer = [following]
    while len(answer) < num_tokens and answer[-1] != EOS:
        answer.append(reader.read(answer[-1]))
    return answer


def readings(prompt: Sequence[int], num_tokens: int, sinks: int) -> list[list[int]]:
    """All answers that a prompt may have."""
    last = Truncation.of_window(WINDOW, BLOCK, sinks).cut(len(prompt))
    return [expected(prompt, num_tokens, sinks, start=start) for start in range(last + 1)]
