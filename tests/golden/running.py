"""Runs one sequence through a runner, in chunks, on blocks that lie out of order."""

from collections.abc import Sequence

import numpy as np

from artesian.engine.batch import Batch
from artesian.ops.base import F32, Runner


def one_sequence(tokens: Sequence[int], start: int, num_blocks: int, wanted: list[int]) -> Batch:
    """The batch of `tokens` at positions from `start`, with the logits of the rows `wanted`."""
    count = len(tokens)
    return Batch(
        tokens=np.asarray(tokens, np.int32),
        positions=np.arange(start, start + count, dtype=np.int32),
        row_starts=np.asarray([0, count], np.int32),
        context_lens=np.asarray([start + count], np.int32),
        block_tables=np.arange(num_blocks, dtype=np.int32)[None, ::-1].copy(),
        logit_rows=np.asarray(wanted, np.int32),
    )


def logits_at(
    runner: Runner, tokens: list[int], positions: list[int], chunk: int, num_blocks: int = 16
) -> F32:
    """Logits (len(positions), vocab_size) after the tokens at `positions`, which ascend."""
    parts = []
    for start in range(0, len(tokens), chunk):
        piece = tokens[start : start + chunk]
        wanted = [p - start for p in positions if start <= p < start + len(piece)]
        parts.append(runner.forward(one_sequence(piece, start, num_blocks, wanted)))
    return np.concatenate(parts)


def greedy(runner: Runner, tokens: list[int], count: int, num_blocks: int = 16) -> list[int]:
    """`count` tokens of highest logit, one after the other."""
    chosen: list[int] = []
    piece, start = tokens, 0
    for _ in range(count):
        logits = runner.forward(one_sequence(piece, start, num_blocks, [len(piece) - 1]))
        start += len(piece)
        piece = [int(logits[0].argmax())]
        chosen += piece
    return chosen
