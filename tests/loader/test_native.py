"""The native runner's options on a real model."""

from pathlib import Path

import numpy as np

from artesian.engine.batch import Batch
from artesian.kvcache import Arena
from artesian.loader import open_checkpoint
from artesian.loader.native import NativeRunner
from artesian.ops.base import F32, KvLayout
from artesian.ops.native import kv_block_bytes


def _logits(path: Path, *, int8: bool) -> tuple[F32, int]:
    checkpoint = open_checkpoint(str(path))
    config = checkpoint.config
    layout = KvLayout(config.num_layers, config.num_kv_heads, config.head_dim, dtype="f32")
    arena = Arena(2, kv_block_bytes(layout))
    runner = NativeRunner(checkpoint, layout, arena.memory, max_rows=64, num_threads=2, int8=int8)
    tokens = checkpoint.tokenizer().encode(
        "The well is deep, and the water in it is cold and clear."
    )
    rows = np.arange(len(tokens), dtype=np.int32)
    batch = Batch(
        tokens=np.asarray(tokens, np.int32),
        positions=rows,
        row_starts=np.asarray([0, len(tokens)], np.int32),
        context_lens=np.asarray([len(tokens)], np.int32),
        block_tables=np.asarray([[0, 1]], np.int32),
        logit_rows=rows,
    )
    return runner.forward(batch), runner.weights_bytes


def test_int8_weights_are_close_but_not_the_same(smollm2_path: Path) -> None:
    stored, stored_bytes = _logits(smollm2_path, int8=False)
    rounded, rounded_bytes = _logits(smollm2_path, int8=True)
    error = np.sqrt(np.mean((stored - rounded) ** 2)) / np.std(stored)
    assert 0 < error < 0.1
    assert rounded_bytes > 1.2 * stored_bytes, "four-bit weights became eight-bit ones"


def test_loading_gives_the_file_s_pages_back(smollm2_path: Path) -> None:
    checkpoint = open_checkpoint(str(smollm2_path))
    before = bytes(checkpoint.tensor("embed").data[:64])
    checkpoint.release_pages()
    assert bytes(checkpoint.tensor("embed").data[:64]) == before
