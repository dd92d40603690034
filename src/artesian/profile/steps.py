"""Times steps of the kernels, without an engine around them."""

import statistics
import time
from collections.abc import Sequence

import numpy as np

from artesian.config.engine import EngineConfig
from artesian.engine.batch import Batch
from artesian.engine.factory import plan_kv
from artesian.kvcache import Arena
from artesian.loader import Checkpoint, open_checkpoint
from artesian.loader.native import create_runner
from artesian.profile.costs import num_pairs
from artesian.profile.fit import Measured

Part = tuple[int, int]
"""A sequence of a step: its tokens so far, and those that are computed."""

_FILL = 0x3C
"""Bytes of the KV that is attended to: as f16, bf16, f32 and int8 they are ordinary numbers. Pages
that were never written would all be one."""


_MOST_KV_BYTES = 1 << 30
"""That are filled: more would only take longer."""
_ENOUGH_S, _LEAST_REPEATS = 3.0, 2
"""Steps that take long are not repeated as often as asked."""


class StepBench:
    """A model with memory for KV, whose contents do not matter.

    Attributes:
        kv_bytes: of a token; capacity_tokens: of KV that fit here.
    """

    def __init__(self, config: EngineConfig, num_threads: int) -> None:
        """Raises `CheckpointError`, `MemoryPlanError`."""
        self._config = config.model_copy(update={"num_threads": num_threads})
        self.checkpoint: Checkpoint = open_checkpoint(config.model)
        layout, plan = plan_kv(self.checkpoint, self._config)
        self._arena = Arena(plan.num_blocks, plan.block_bytes, layout.num_layers)
        self._runner = create_runner(self.checkpoint, self._arena.memory, layout, self._config)
        self._num_filled = 0
        self.kv_dtype = layout.dtype
        self.isa = self._runner.isa
        self.kv_bytes = plan.block_bytes / plan.block_size_tokens
        self.layer_bytes = plan.block_bytes // layout.num_layers
        self.capacity_tokens = plan.num_blocks * plan.block_size_tokens
        self.max_model_len = plan.max_model_len
        self.max_rows = self._config.max_num_batched_tokens

    def fits(self, parts: Sequence[Part]) -> bool:
        """Whether that can be one step here."""
        size = self._config.block_size
        num_blocks = sum(-(-(first + num) // size) for first, num in parts)
        rows = sum(num for _, num in parts)
        longest = max(first + num for first, num in parts)
        most_tokens = min(self.capacity_tokens, _MOST_KV_BYTES / self.kv_bytes)
        has_room = num_blocks * size <= most_tokens
        return has_room and rows <= self.max_rows and longest <= self.max_model_len

    def seconds(self, parts: Sequence[Part], repeats: int) -> float:
        """The median time of that step, once it has run for the first time."""
        batch = self._batch(parts)
        self._runner.forward(batch)
        times = []
        for _ in range(repeats):
            start_s = time.perf_counter()
            self._runner.forward(batch)
            times.append(time.perf_counter() - start_s)
            if len(times) >= _LEAST_REPEATS and sum(times) > _ENOUGH_S:
                break
        return statistics.median(times)

    def measure(self, parts: Sequence[Part], repeats: int) -> Measured:
        """That step and its time."""
        return Measured(
            rows=sum(num for _, num in parts if num == 1),
            tokens=sum(first + 1 for first, num in parts if num == 1),
            prompt_rows=sum(num for _, num in parts if num > 1),
            pairs=sum(num_pairs(num, first) for first, num in parts if num > 1),
            seconds=self.seconds(parts, repeats),
        )

    def _batch(self, parts: Sequence[Part]) -> Batch:
        size = self._config.block_size
        ends = [first + num for first, num in parts]
        tables = np.zeros((len(parts), -(-max(ends) // size)), np.int32)
        next_block = 0
        for table, end in zip(tables, ends, strict=True):
            num_blocks = -(-end // size)
            table[:num_blocks] = np.arange(next_block, next_block + num_blocks)
            next_block += num_blocks
        self._fill(next_block)
        starts = np.concatenate([[0], np.cumsum([num for _, num in parts])]).astype(np.int32)
        vocab_size = self.checkpoint.config.vocab_size
        return Batch(
            tokens=(np.arange(starts[-1]) * 7919 % vocab_size).astype(np.int32),
            positions=np.concatenate([np.arange(f, f + n) for f, n in parts]).astype(np.int32),
            row_starts=starts,
            context_lens=np.array(ends, np.int32),
            block_tables=tables,
            logit_rows=starts[1:] - 1,
        )

    def _fill(self, num_blocks: int) -> None:
        if num_blocks > self._num_filled:
            size = self._arena.block_bytes
            self._arena.memory[self._num_filled * size : num_blocks * size] = _FILL
            self._num_filled = num_blocks
