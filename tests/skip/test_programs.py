"""The kernels go around sublayers as numpy does, whatever the batch."""

import numpy as np
import pytest

from artesian.loader import Checkpoint, open_checkpoint
from artesian.loader.reference import ReferenceRunner
from artesian.ops.base import F32, KvLayout, Runner
from artesian.skip import SkipSet
from tests.golden import tiny_models
from tests.golden.running import native_isas, native_runner
from tests.skip.batches import BLOCKS_EACH, Text, step

NUM_TEXTS = 5
NUM_BLOCKS = NUM_TEXTS * BLOCKS_EACH


@pytest.fixture(scope="module", params=sorted(tiny_models.CONFIGS))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    return open_checkpoint(tiny_models.write(request.param, tmp_path_factory.mktemp("tiny")))


def layout(checkpoint: Checkpoint) -> KvLayout:
    config = checkpoint.config
    return KvLayout(config.num_layers, config.num_kv_heads, config.head_dim, dtype="f32")


def random_set(rng: np.random.Generator, num_sublayers: int) -> SkipSet:
    chosen = np.flatnonzero(rng.random(num_sublayers) < 0.4)
    return SkipSet(tuple(map(int, chosen)), tuple(map(float, rng.uniform(0.8, 1.3, len(chosen)))))


def texts(num_sublayers: int, seed: int) -> list[Text]:
    """Of different lengths; the first one skips nothing, two the same, the last one all."""
    rng = np.random.default_rng(seed)
    sets = [SkipSet(), *(random_set(rng, num_sublayers) for _ in range(2))]
    every = SkipSet(tuple(range(num_sublayers)), (1.1,) * num_sublayers)
    skips = [*sets, sets[1], every]
    return [
        Text(list(map(int, rng.integers(3, 500, 90))), slot, skip)
        for slot, skip in enumerate(skips)
    ]


STEPS = [[13, 20, 1, 17, 9], [1, 1, 1, 1, 1], [40, 1, 30, 20, 1], [1, 5, 1, 1, 2]]


def run(runner: Runner, sublayers: int, order: list[int], seed: int = 0) -> list[F32]:
    """Logits of each text, in the texts' own order, and what was measured."""
    all_texts = texts(sublayers, seed)
    out: dict[int, list[F32]] = {index: [] for index in order}
    for counts in STEPS:
        given = [counts[index] for index in order]
        probe = np.zeros((2, sublayers, sum(given)), np.float32)
        logits = step(runner, [all_texts[index] for index in order], given, probe)
        bounds = np.cumsum([0, *given])
        for place, index in enumerate(order):
            out[index].append(logits[place].ravel())
            out[index].append(probe[:, :, bounds[place] : bounds[place + 1]].ravel())
    return [np.concatenate(out[index]) for index in sorted(order)]


@pytest.mark.parametrize("isa", native_isas())
def test_mixed_sets_are_what_numpy_computes(checkpoint: Checkpoint, isa: str) -> None:
    sublayers = 2 * checkpoint.config.num_layers
    plain = run(ReferenceRunner(checkpoint, layout(checkpoint), NUM_BLOCKS), sublayers, [0, 1, 2])
    runner = native_runner(checkpoint, layout(checkpoint), NUM_BLOCKS, isa)
    for got, expected in zip(run(runner, sublayers, [0, 1, 2]), plain, strict=True):
        assert np.isfinite(expected).mean() > 0.9
        np.testing.assert_allclose(got, expected, atol=3e-4, rtol=1e-4)


@pytest.mark.parametrize("isa", native_isas())
def test_a_row_depends_on_no_other_sequence(checkpoint: Checkpoint, isa: str) -> None:
    """Alone or among others, in any order: bit for bit."""
    sublayers = 2 * checkpoint.config.num_layers
    runner = native_runner(checkpoint, layout(checkpoint), NUM_BLOCKS, isa)
    together = run(runner, sublayers, list(range(NUM_TEXTS)))
    for order in ([4, 3, 2, 1, 0], [1, 0, 3, 4, 2]):
        for got, expected in zip(run(runner, sublayers, order), together, strict=True):
            np.testing.assert_array_equal(got, expected)
    for index, expected in enumerate(together):
        (alone,) = run(runner, sublayers, [index])
        np.testing.assert_array_equal(alone, expected)


def test_skipped_attention_stores_nothing(checkpoint: Checkpoint) -> None:
    """A layer that all leave out has no keys and values: what lay there stays."""
    from artesian.kvcache import Arena
    from artesian.loader.native import NativeRunner
    from artesian.ops.native import kv_block_bytes

    shape = layout(checkpoint)
    arena = Arena(NUM_BLOCKS, kv_block_bytes(shape))
    runner = NativeRunner(checkpoint, shape, arena.memory, max_rows=64, num_threads=2)
    arena.memory[:] = 255  # not a number, if anybody reads it
    text = Text(list(range(3, 43)), 0, SkipSet((0, 3), (1.0, 1.0)))
    (logits,) = step(runner, [text], [40])
    assert np.isfinite(logits).all()
    (logits,) = step(runner, [Text(text.tokens, 0, text.skip)], [39])
    first = arena.memory[: kv_block_bytes(shape)].reshape(shape.num_layers, -1)
    assert (first[0] == 255).all()
    assert not (first[1] == 255).all()


@pytest.mark.parametrize(
    ("skip", "message"),
    [
        (SkipSet((99,), (1.0,)), "no sublayer 99"),
        (SkipSet((0,), ()), "1 sublayers are skipped, but there are 0 scales"),
        (SkipSet((1, 1), (1.0, 1.0)), "skips 1 twice"),
        (SkipSet((1,), (float("nan"),)), "scale of sublayer 1 is NaN"),
    ],
)
def test_nonsense_is_refused(checkpoint: Checkpoint, skip: SkipSet, message: str) -> None:
    runner = native_runner(checkpoint, layout(checkpoint), NUM_BLOCKS, native_isas()[-1])
    with pytest.raises(ValueError, match=message):
        step(runner, [Text([3, 4], 0, skip)], [2])


def test_a_probe_of_another_shape_is_refused(checkpoint: Checkpoint) -> None:
    runner = native_runner(checkpoint, layout(checkpoint), NUM_BLOCKS, native_isas()[-1])
    with pytest.raises(ValueError, match="a probe of 2 sublayers and 2 rows does not fit"):
        step(runner, [Text([3, 4], 0)], [2], np.zeros((2, 2, 2), np.float32))
