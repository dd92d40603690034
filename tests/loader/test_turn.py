"""KV that moves to new positions, on every kind of model: kernels against numpy; what is exact."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from artesian.engine.batch import Batch
from artesian.kvcache import Arena
from artesian.loader import open_checkpoint
from artesian.loader.native import NativeRunner
from artesian.loader.reference import ReferenceRunner
from artesian.ops.base import F32, KvDtype, KvLayout, TurningRunner
from artesian.ops.native import kv_block_bytes
from tests.golden import tiny_models

BLOCK = 32
NUM_BLOCKS = 8
MODELS = list(tiny_models.CONFIGS)
DTYPES: list[KvDtype] = ["f32", "f16", "bf16", "int8"]

I32 = npt.NDArray[np.int32]


def native(directory: Path, dtype: KvDtype) -> tuple[NativeRunner, npt.NDArray[np.uint8]]:
    checkpoint = open_checkpoint(directory)
    config = checkpoint.config
    layout = KvLayout(config.num_layers, config.num_kv_heads, config.head_dim, BLOCK, dtype)
    arena = Arena(NUM_BLOCKS, kv_block_bytes(layout))
    runner = NativeRunner(checkpoint, layout, arena.memory, max_rows=96, num_threads=2)
    return runner, arena.memory.reshape(NUM_BLOCKS, -1)


def reference(directory: Path) -> ReferenceRunner:
    return ReferenceRunner(open_checkpoint(directory), num_blocks=NUM_BLOCKS)


def run(runner: TurningRunner, tokens: I32, position: int, table: list[int]) -> F32:
    """Logits of all rows."""
    rows = np.arange(len(tokens), dtype=np.int32)
    return runner.forward(
        Batch(
            tokens=tokens,
            positions=position + rows,
            row_starts=np.array([0, len(tokens)], np.int32),
            context_lens=np.array([position + len(tokens)], np.int32),
            block_tables=np.array([table], np.int32),
            logit_rows=rows,
        )
    )


def tokens(seed: int, count: int) -> I32:
    return np.random.default_rng(seed).integers(3, 500, count, dtype=np.int32)


@pytest.fixture(scope="module", params=MODELS)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write(request.param, tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_computed_behind_turned_blocks_is_what_numpy_computes(
    directory: Path, dtype: KvDtype
) -> None:
    text, more = tokens(1, 3 * BLOCK), tokens(2, 7)
    logits = []
    for runner in (native(directory, dtype)[0], reference(directory)):
        run(runner, text, 0, [0, 1, 2])
        runner.turn([1, 2], [5, 4], -BLOCK)
        logits.append(run(runner, more, 2 * BLOCK, [5, 4, 3]))
    error = np.sqrt(np.mean((logits[0] - logits[1]) ** 2)) / np.std(logits[1])
    assert error < {"f32": 1e-4, "f16": 6e-3, "bf16": 5e-2, "int8": 0.1}[dtype]


def test_the_first_layer_is_that_of_the_truncated_text_and_others_are_not(directory: Path) -> None:
    text = tokens(1, 3 * BLOCK)
    turned, computed = reference(directory), reference(directory)
    run(turned, text, 0, [0, 1, 2])
    turned.turn([1, 2], [3, 4], -BLOCK)
    run(computed, text[BLOCK:], 0, [3, 4])
    kept, wanted = turned._kv, computed._kv
    assert np.array_equal(kept.values[0, 3:5], wanted.values[0, 3:5])
    assert np.abs(kept.keys[0, 3:5] - wanted.keys[0, 3:5]).max() < 1e-5
    assert np.abs(kept.values[-1, 3:5] - wanted.values[-1, 3:5]).max() > 1e-3


def test_sources_stay_and_bad_blocks_are_refused(directory: Path) -> None:
    runner, blocks = native(directory, "f16")
    run(runner, tokens(1, 2 * BLOCK), 0, [0, 1])
    before = blocks[:2].copy()
    runner.turn([0, 1], [2, 3], -BLOCK)
    assert np.array_equal(blocks[:2], before)
    assert not np.array_equal(blocks[2:4], before)
    runner.turn([2, 3], [4, 5], 0)
    assert np.array_equal(blocks[4:6], blocks[2:4]), "by no positions it is a copy"
    for sources, targets, problem in (
        ([0], [8], "block 8 is none of the arena's 8"),
        ([-1], [1], "block -1 is none"),
        ([0, 1], [2, 2], "target of two"),
        ([0, 1], [2, 0], "both source and target"),
        ([0, 1], [2], "each needs one"),
    ):
        with pytest.raises(ValueError, match=problem):
            runner.turn(sources, targets, 1)
