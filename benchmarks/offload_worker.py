"""One process of `offload.py`: a model over a region, on one core.

    offload_worker.py MODEL REGION CORE NUM_BLOCKS

It answers lines of JSON on standard input, one each. KV is made up: its contents do not matter, but
both processes have the same.
"""

import json
import os
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from artesian.engine.batch import Batch
from artesian.engine.offload import (
    Exchange,
    ExchangeSize,
    ExecutorSettings,
    OffloadExecutor,
    RemoteName,
    RemoteRows,
)
from artesian.engine.offload.remote import RemoteExecutor
from artesian.kvcache.region import RegionArena
from artesian.loader import open_checkpoint
from artesian.loader.native import NativeRunner
from artesian.ops.base import KvLayout
from artesian.ops.native import kv_block_bytes

BLOCK = 32
GENERATION = 1
TIMEOUT_S = 30.0
_FILL = 0x3C
"""A byte of f16 numbers of about 1."""


@dataclass
class Prefill:
    """Prompts that are computed all the time, in chunks."""

    stop: threading.Event = field(default_factory=threading.Event)
    num_tokens: int = 0
    seconds: float = 0.0
    thread: threading.Thread | None = None


class Worker:
    """Answers the commands; see `offload.py` for what they are for."""

    def __init__(self, model: str, region: str, num_blocks: int) -> None:
        checkpoint = open_checkpoint(model)
        config = checkpoint.config
        layout = KvLayout(config.num_layers, config.num_kv_heads, config.head_dim, dtype="f16")
        size = ExchangeSize.of_heads(config.num_heads, config.num_kv_heads, config.head_dim)
        block_bytes = kv_block_bytes(layout)
        self._arena = RegionArena(
            region,
            num_blocks,
            block_bytes,
            layout.num_layers,
            fingerprint=f"{model} f16",
            mailbox_bytes=size.num_bytes,
        )
        self._arena.memory[:] = _FILL
        self._is_huge = self._arena.region.back(0, num_blocks * block_bytes)
        self._runner = NativeRunner(
            checkpoint, layout, self._arena.memory, max_rows=512, num_threads=1
        )
        self._exchange = Exchange(self._arena.region, size, self._runner.program)
        self._vocab_size = config.vocab_size
        self._num_layers = layout.num_layers
        self._remote: RemoteExecutor | None = None
        self._executor: OffloadExecutor | None = None
        self._names: list[RemoteName] = []
        self._prefill = Prefill()

    def about(self) -> dict[str, Any]:
        """What it is."""
        return {
            "num_layers": self._num_layers,
            "is_huge": self._is_huge,
            "kv_bytes": self._arena.block_bytes / BLOCK,
        }

    def connect(self, region: str) -> dict[str, Any]:
        """Connects with the executor in a region."""
        self._remote = self._exchange.connect(region, GENERATION, TIMEOUT_S)
        return {}

    def serve(self, share: float, slice_s: float) -> dict[str, Any]:
        """Starts an executor."""
        self._executor = OffloadExecutor(
            self._exchange,
            self._runner.runtime,
            self._arena.memory,
            GENERATION,
            ExecutorSettings(share=share, slice_s=slice_s, engine_nice=0),
        )
        return {}

    def share(self, share: float) -> dict[str, Any]:
        """Sets the executor's share."""
        assert self._executor is not None
        self._executor.set_share(share)
        return {}

    def admit(self, count: int, context: int) -> dict[str, Any]:
        """Has so many sequences, whose next token is the last of `context`."""
        assert self._executor is not None
        for name in self._names:
            self._executor.release(name)
        size = -(-context // BLOCK)
        self._names = [
            self._executor.admit(list(range(n * size, (n + 1) * size)), context - 1)
            for n in range(count)
        ]
        return {"names": self._names}

    def stats(self) -> dict[str, Any]:
        """What executor or connection have done."""
        of: Any = self._executor or self._remote
        stats = of.stats()
        return {name: getattr(stats, name) for name in stats.__struct_fields__}

    def decode(
        self, num_local: int, names: list[list[int]], context: int, steps: int
    ) -> dict[str, Any]:
        """Times steps of sequences that are all `context` tokens long; sums their logits up."""
        batch = self._batch(num_local, names, context)
        logits = self._runner.forward(batch)
        seconds = []
        for _ in range(steps):
            start_s = time.perf_counter()
            self._runner.forward(batch)
            seconds.append(time.perf_counter() - start_s)
        assert not batch.failed, f"sequences {batch.failed} failed"
        logits_sum = float(np.sum(logits.astype(np.float64)))
        return {"seconds": seconds, "sum": logits_sum, "median_s": statistics.median(seconds)}

    def _batch(self, num_local: int, names: list[list[int]], context: int) -> Batch:
        count = num_local + len(names)
        size = -(-context // BLOCK)
        tables = np.arange(count * size, dtype=np.int32).reshape(count, size)
        tables[num_local:] = 0
        remotes = []
        if names:
            assert self._remote is not None
            rows = np.array([(*name, context - 1) for name in names], np.uint32)
            remotes = [RemoteRows(self._remote, rows, TIMEOUT_S)]
        return Batch(
            tokens=np.full(count, 1000, np.int32),
            positions=np.full(count, context - 1, np.int32),
            row_starts=np.arange(count + 1, dtype=np.int32),
            context_lens=np.full(count, context, np.int32),
            block_tables=tables,
            logit_rows=np.arange(count, dtype=np.int32),
            remotes=remotes,
        )

    def begin_prefill(self, chunk: int, length: int, nice: int) -> dict[str, Any]:
        """Computes prompts in the background from now on, behind the blocks of sequences."""
        first_block = self._arena.num_blocks - -(-length // BLOCK)
        prefill = self._prefill = Prefill()

        def compute() -> None:
            self._runner.runtime.add_nice(nice)
            table = np.arange(first_block, self._arena.num_blocks, dtype=np.int32)[None]
            start_s = time.perf_counter()
            while not prefill.stop.is_set():
                for start in range(0, length, chunk):
                    if prefill.stop.is_set():
                        break
                    self._runner.forward(self._chunk(start, chunk, table))
                    prefill.num_tokens += chunk
                    prefill.seconds = time.perf_counter() - start_s

        prefill.thread = threading.Thread(target=compute)
        prefill.thread.start()
        return {}

    def _chunk(self, start: int, chunk: int, table: Any) -> Batch:
        return Batch(
            tokens=np.full(chunk, 1000, np.int32),
            positions=np.arange(start, start + chunk, dtype=np.int32),
            row_starts=np.array([0, chunk], np.int32),
            context_lens=np.array([start + chunk], np.int32),
            block_tables=table,
            logit_rows=np.zeros(0, np.int32),
        )

    def prefilled(self) -> dict[str, Any]:
        """Tokens computed since the last call, and the time that took."""
        prefill = self._prefill
        return {"tokens": prefill.num_tokens, "seconds": prefill.seconds}

    def end_prefill(self) -> dict[str, Any]:
        """Ends that."""
        self._prefill.stop.set()
        if self._prefill.thread is not None:
            self._prefill.thread.join()
        return self.prefilled()

    def close(self) -> None:
        """Gives everything back."""
        self.end_prefill()
        self._remote = None
        if self._executor is not None:
            self._executor.close()
        self._arena.close()


def main() -> None:
    """Answers until standard input ends."""
    model, region, core, num_blocks = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    worker = Worker(model, region, int(num_blocks))
    print(json.dumps(worker.about()), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(worker, command.pop("do"))(**command)
        print(json.dumps(answer), flush=True)
    worker.close()


if __name__ == "__main__":
    main()
