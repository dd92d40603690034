"""One side of attention by a peer: a model over a region, without an engine around it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from artesian.engine.batch import Batch
from artesian.engine.offload import Exchange, ExchangeSize, RemoteName, RemotePeer, RemoteRows
from artesian.kvcache.region import RegionArena
from artesian.loader import open_checkpoint
from artesian.loader.native import NativeRunner
from artesian.ops.base import F32, KvLayout
from artesian.ops.native import kv_block_bytes

BLOCK = 32
MAX_TOKENS = 256
"""Prompt and output of a sequence."""
_NUM_BLOCKS = 16 * MAX_TOKENS // BLOCK


@dataclass
class Row:
    """The next token of a sequence: its KV lies in `blocks` here, or with a peer under `name`."""

    token: int
    position: int
    blocks: Sequence[int] = ()
    name: RemoteName | None = None


class Side:
    """A model, its region and the mailboxes in it."""

    def __init__(self, model: str, region: str, num_threads: int = 1) -> None:
        self.checkpoint = open_checkpoint(model)
        config = self.checkpoint.config
        layout = KvLayout(config.num_layers, config.num_kv_heads, config.head_dim, dtype="f16")
        size = ExchangeSize.of_heads(config.num_heads, config.num_kv_heads, config.head_dim)
        self.arena = RegionArena(
            region,
            _NUM_BLOCKS,
            kv_block_bytes(layout),
            layout.num_layers,
            fingerprint=f"{model} f16",
            mailbox_bytes=size.num_bytes,
        )
        self.runner = NativeRunner(
            self.checkpoint, layout, self.arena.memory, max_rows=64, num_threads=num_threads
        )
        self.exchange = Exchange(self.arena.region, size, self.runner.program)

    def blocks(self) -> list[int]:
        """Blocks for a sequence."""
        return [self.arena.allocate() for _ in range(MAX_TOKENS // BLOCK)]

    def prefill(self, tokens: Sequence[int], blocks: Sequence[int]) -> None:
        """Computes the KV of all tokens."""
        for start in range(0, len(tokens), 64):
            piece = tokens[start : start + 64]
            end = start + len(piece)
            batch = Batch(
                tokens=np.array(piece, np.int32),
                positions=np.arange(start, end, dtype=np.int32),
                row_starts=np.array([0, len(piece)], np.int32),
                context_lens=np.array([end], np.int32),
                block_tables=np.array([blocks], np.int32),
                logit_rows=np.zeros(0, np.int32),
            )
            self.runner.forward(batch)

    def decode(
        self, rows: Sequence[Row], peer: RemotePeer | None = None, timeout_s: float = 30.0
    ) -> tuple[F32, list[int]]:
        """Logits (len(rows), vocab_size), and the rows that the peer failed for; those with the
        peer come last."""
        remote = [row for row in rows if row.name is not None]
        assert list(rows[len(rows) - len(remote) :]) == remote
        tables = np.zeros((len(rows), MAX_TOKENS // BLOCK), np.int32)
        for table, row in zip(tables, rows, strict=True):
            table[: len(row.blocks)] = row.blocks
        remotes = []
        if remote:
            assert peer is not None
            names = [(*row.name, row.position) for row in remote if row.name]
            remotes = [RemoteRows(peer, np.array(names, np.uint32), timeout_s)]
        positions = np.array([row.position for row in rows], np.int32)
        batch = Batch(
            tokens=np.array([row.token for row in rows], np.int32),
            positions=positions,
            row_starts=np.arange(len(rows) + 1, dtype=np.int32),
            context_lens=positions + 1,
            block_tables=tables,
            logit_rows=np.arange(len(rows), dtype=np.int32),
            remotes=remotes,
        )
        logits = self.runner.forward(batch)
        return logits, batch.failed
