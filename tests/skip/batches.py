"""Batches of several sequences that leave out different sublayers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from artesian.engine.batch import Batch
from artesian.ops.base import F32, Runner
from artesian.skip import SkipSet

BLOCKS_EACH = 4
BLOCK_SIZE = 32


@dataclass
class Text:
    """A sequence of tokens with blocks of its own, computed bit by bit."""

    tokens: Sequence[int]
    slot: int
    skip: SkipSet = field(default_factory=SkipSet)
    num_computed: int = 0


def step(
    runner: Runner, texts: Sequence[Text], counts: Sequence[int], probe: F32 | None = None
) -> list[F32]:
    """Computes the next tokens of each; the logits of all its rows."""
    pieces = [
        range(text.num_computed, text.num_computed + count)
        for text, count in zip(texts, counts, strict=True)
    ]
    starts = np.cumsum([0, *counts]).astype(np.int32)
    tables = [[text.slot * BLOCKS_EACH + block for block in range(BLOCKS_EACH)] for text in texts]
    batch = Batch(
        tokens=np.array([t.tokens[i] for t, p in zip(texts, pieces, strict=True) for i in p], "i4"),
        positions=np.array([i for piece in pieces for i in piece], np.int32),
        row_starts=starts,
        context_lens=np.array([piece.stop for piece in pieces], np.int32),
        block_tables=np.array(tables, np.int32),
        logit_rows=np.arange(starts[-1], dtype=np.int32),
        skips=[(index, text.skip) for index, text in enumerate(texts) if text.skip.sublayers],
        probe=probe,
    )
    logits = runner.forward(batch)
    for text, count in zip(texts, counts, strict=True):
        text.num_computed += count
    return [logits[a:b] for a, b in pairwise(starts)]
