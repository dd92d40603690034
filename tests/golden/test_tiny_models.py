"""Every architecture gives the logits that Transformers gives, in whatever pieces it is run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artesian.loader import Checkpoint, open_checkpoint
from artesian.loader.reference import ReferenceRunner
from artesian.ops.base import KvDtype, KvLayout, Runner
from tests.golden import tiny_models
from tests.golden.running import greedy, logits_at, native_isas, native_runner

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "tiny.json").read_text())
NUM_BLOCKS = 16
MULTIPLIES_BF16 = {"avx512bf16", "amx"}


@pytest.fixture(scope="module", params=sorted(tiny_models.CONFIGS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def checkpoint(name: str, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(tiny_models.write(name, tmp_path_factory.mktemp("tiny")))


def layout(checkpoint: Checkpoint, dtype: KvDtype = "f32", block_size: int = 32) -> KvLayout:
    config = checkpoint.config
    return KvLayout(config.num_layers, config.num_kv_heads, config.head_dim, block_size, dtype)


@pytest.fixture(params=["reference", *native_isas()])
def runner(request: pytest.FixtureRequest, checkpoint: Checkpoint) -> Runner:
    if request.param == "reference":
        return ReferenceRunner(checkpoint, layout(checkpoint, block_size=8), NUM_BLOCKS)
    return native_runner(checkpoint, layout(checkpoint), NUM_BLOCKS, request.param)


def test_prompts_are_those_of_the_answers(name: str) -> None:
    assert tiny_models.prompt(name) == GOLDEN[name]["tokens"]


@pytest.mark.parametrize("chunk", [48, 7, 1])
def test_logits(name: str, runner: Runner, chunk: int) -> None:
    golden = GOLDEN[name]
    logits = logits_at(runner, golden["tokens"], [row["position"] for row in golden["rows"]], chunk)
    for got, row in zip(logits, golden["rows"], strict=True):
        np.testing.assert_allclose(got[:: golden["step"]], row["logits"], atol=2e-4, rtol=2e-5)
        np.testing.assert_allclose(got[row["top_ids"]], row["top_logits"], atol=2e-4, rtol=2e-5)


def test_greedy_tokens(name: str, runner: Runner) -> None:
    golden = GOLDEN[name]
    assert greedy(runner, golden["tokens"], 32) == golden["greedy"]


@pytest.mark.parametrize("isa", native_isas())
@pytest.mark.parametrize(("dtype", "tolerance"), [("f16", 5e-3), ("bf16", 5e-2)])
def test_rounded_kv(
    name: str, checkpoint: Checkpoint, isa: str, dtype: KvDtype, tolerance: float
) -> None:
    """Kernels and numpy agree on rounded KV better than either does with exact KV; less where
    queries and weights are rounded to bf16 too."""
    tokens = GOLDEN[name]["tokens"]
    expected = logits_at(
        ReferenceRunner(checkpoint, layout(checkpoint, dtype), NUM_BLOCKS), tokens, [20, 47], 48
    )
    runner = native_runner(checkpoint, layout(checkpoint, dtype), NUM_BLOCKS, isa)
    if dtype == "bf16" and isa in MULTIPLIES_BF16:
        tolerance *= 3
    np.testing.assert_allclose(logits_at(runner, tokens, [20, 47], 7), expected, atol=tolerance)
