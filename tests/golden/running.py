"""Runs one sequence through a runner, in chunks, on blocks that lie out of order."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from artesian.engine.batch import Batch
from artesian.kvcache.arena import Arena
from artesian.loader import Checkpoint
from artesian.ops.base import F32, KvLayout, Runner

MAX_ROWS = 128


def native_isas() -> list[str]:
    """Instruction sets that the kernels can use here; none when they are not built."""
    try:
        from artesian.ops.isa import available_isas
    except ImportError:
        return []
    return available_isas()


def native_runner(checkpoint: Checkpoint, layout: KvLayout, num_blocks: int, isa: Any) -> Runner:
    """The kernels' runner with an arena of its own."""
    from artesian.loader.native import NativeRunner
    from artesian.ops.native import kv_block_bytes

    arena = Arena(num_blocks, kv_block_bytes(layout))
    return NativeRunner(checkpoint, layout, arena.memory, max_rows=MAX_ROWS, num_threads=2, isa=isa)


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
