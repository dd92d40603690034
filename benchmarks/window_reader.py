"""Reads a long text through a context window, in each way of going on when the window is full."""

import time
from typing import Literal

import numpy as np
import numpy.typing as npt

from artesian.context.policies import Truncation
from artesian.engine.batch import Batch
from artesian.kvcache import Arena
from artesian.loader import Checkpoint
from artesian.loader.native import NativeRunner
from artesian.ops.base import F32, KvDtype, KvLayout
from artesian.ops.native import kv_block_bytes

BLOCK = 32
Way = Literal["computed", "turned", "coupled"]
"""What stays of a full window is computed again at its new positions; or its keys are turned to
them; or it is kept as it is, while the tokens behind it take the new positions."""

F64 = npt.NDArray[np.float64]
_MAX_ROWS = 64


class WindowReader:
    """One model over an arena with room for two windows."""

    def __init__(
        self, checkpoint: Checkpoint, dtype: KvDtype, window_tokens: int, num_threads: int
    ) -> None:
        config = checkpoint.config
        self.layout = KvLayout(
            config.num_layers, config.num_kv_heads, config.head_dim, BLOCK, dtype
        )
        self._arena = Arena(2 * window_tokens // BLOCK, kv_block_bytes(self.layout))
        self._window_tokens = window_tokens
        self.runner = NativeRunner(
            checkpoint,
            self.layout,
            self._arena.memory,
            max_rows=_MAX_ROWS,
            num_threads=num_threads,
        )
        self.table: list[int] = []

    def cuts(self, num_sinks: int) -> Truncation:
        """Where the window is cut."""
        return Truncation.of_window(self._window_tokens, BLOCK, num_sinks)

    def losses(self, stream: npt.NDArray[np.int32], way: Way, cuts: Truncation) -> F64:
        """Minus the log probability of each token behind the first window."""
        self.begin()
        losses: list[F64] = []
        held: npt.NDArray[np.int32] = np.empty(0, np.int32)
        for start in range(0, len(stream) - 1, BLOCK):
            if len(held) == cuts.window_tokens:
                held = self.overflow(held, way, cuts)
            piece = stream[start : min(start + BLOCK, len(stream) - 1)]
            counts = start >= cuts.window_tokens
            logits = self.run(piece, len(held), wants_logits=counts)
            held = np.concatenate([held, piece])
            if counts:
                losses.append(_losses(logits, stream[start + 1 : start + 1 + len(piece)]))
        return np.concatenate(losses)

    def begin(self) -> None:
        """An empty window."""
        self.table = list(range(self._window_tokens // BLOCK))

    def run(self, tokens: npt.NDArray[np.int32], position: int, wants_logits: bool = False) -> F32:
        """Computes at most 64 tokens behind the first `position` ones."""
        num_rows, end = len(tokens), position + len(tokens)
        rows = np.arange(num_rows, dtype=np.int32)
        batch = Batch(
            tokens=tokens,
            positions=position + rows,
            row_starts=np.array([0, num_rows], np.int32),
            context_lens=np.array([end], np.int32),
            block_tables=np.array([self.table], np.int32),
            logit_rows=rows if wants_logits else rows[:0],
        )
        return self.runner.forward(batch)

    def fill(self, tokens: npt.NDArray[np.int32], position: int = 0) -> None:
        """Computes any number of tokens."""
        for start in range(0, len(tokens), _MAX_ROWS):
            self.run(tokens[start : start + _MAX_ROWS], position + start)

    def overflow(
        self, held: npt.NDArray[np.int32], way: Way, cuts: Truncation
    ) -> npt.NDArray[np.int32]:
        """Goes on with a full window; returns the tokens that it holds now."""
        first, sinks = cuts.sink_blocks + cuts.step_blocks, cuts.sink_tokens
        kept = np.concatenate([held[:sinks], held[first * BLOCK :]])
        blocks = self.table[: cuts.sink_blocks] + self.table[first:]
        spare = [block for block in range(self._arena.num_blocks) if block not in self.table]
        if way == "turned":
            moved = spare[: cuts.turned_blocks]
            self.runner.turn(self.table[first:], moved, -cuts.step_blocks * BLOCK)
            blocks = self.table[: cuts.sink_blocks] + moved
        elif way == "computed":
            blocks = spare[: len(blocks)]
        rest = [block for block in range(self._arena.num_blocks) if block not in blocks]
        self.table = (blocks + rest)[: cuts.window_blocks]
        if way == "computed":
            self.fill(kept)
        return kept

    def turn_us(self, rounds: int = 9) -> float:
        """Microseconds that turning takes a block, best of some rounds over half an arena."""
        half = self._arena.num_blocks // 2
        blocks = list(range(self._arena.num_blocks))
        taken = []
        for _ in range(rounds):
            started = time.perf_counter()
            self.runner.turn(blocks[:half], blocks[half : 2 * half], -half * BLOCK)
            taken.append(time.perf_counter() - started)
        return min(taken) / half * 1e6

    def compute_us(self, tokens: npt.NDArray[np.int32], rounds: int = 3) -> float:
        """Microseconds that computing half a window takes a block, best of some rounds."""
        half = self._window_tokens // 2
        self.begin()
        taken = []
        for _ in range(rounds):
            started = time.perf_counter()
            self.fill(tokens[:half])
            taken.append(time.perf_counter() - started)
        return min(taken) / (half // BLOCK) * 1e6

    def keys_and_values(self, layer: int, blocks: list[int]) -> tuple[F64, F64]:
        """K and V of some blocks, (blocks, heads, BLOCK * head_dim) each; of f16 or f32."""
        layout = self.layout
        dtype = {"f16": np.float16, "f32": np.float32}[layout.dtype]
        shape = (-1, layout.num_layers, layout.num_kv_heads, 2, BLOCK * layout.head_dim)
        sides = self._arena.memory.view(dtype).reshape(shape)[blocks, layer]
        return sides[:, :, 0].astype(np.float64), sides[:, :, 1].astype(np.float64)


def _losses(logits: F32, wanted: npt.NDArray[np.int32]) -> F64:
    highest = logits.max(axis=1, keepdims=True)
    total: F64 = np.exp(logits - highest).sum(axis=1, dtype=np.float64)
    chosen = logits[np.arange(len(wanted)), wanted].astype(np.float64)
    losses: F64 = np.log(total) + highest[:, 0] - chosen
    return losses
