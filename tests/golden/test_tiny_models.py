"""Every architecture gives the logits that Transformers gives, in whatever pieces it is run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artesian.loader import Checkpoint, open_checkpoint
from artesian.loader.reference import ReferenceRunner
from artesian.ops.base import KvLayout
from tests.golden import tiny_models
from tests.golden.running import greedy, logits_at

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "tiny.json").read_text())


@pytest.fixture(scope="module", params=sorted(tiny_models.CONFIGS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def checkpoint(name: str, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(tiny_models.write(name, tmp_path_factory.mktemp("tiny")))


def test_prompts_are_those_of_the_answers(name: str) -> None:
    assert tiny_models.prompt(name) == GOLDEN[name]["tokens"]


@pytest.mark.parametrize("chunk", [48, 7, 1])
def test_logits(name: str, checkpoint: Checkpoint, chunk: int) -> None:
    golden = GOLDEN[name]
    runner = small_runner(checkpoint)
    logits = logits_at(runner, golden["tokens"], [row["position"] for row in golden["rows"]], chunk)
    for got, row in zip(logits, golden["rows"], strict=True):
        np.testing.assert_allclose(got[:: golden["step"]], row["logits"], atol=2e-4, rtol=2e-5)
        np.testing.assert_allclose(got[row["top_ids"]], row["top_logits"], atol=2e-4, rtol=2e-5)


def test_greedy_tokens(name: str, checkpoint: Checkpoint) -> None:
    golden = GOLDEN[name]
    assert greedy(small_runner(checkpoint), golden["tokens"], 32) == golden["greedy"]


def small_runner(checkpoint: Checkpoint) -> ReferenceRunner:
    config = checkpoint.config
    layout = KvLayout(config.num_layers, config.num_kv_heads, config.head_dim, 8, "f32")
    return ReferenceRunner(checkpoint, layout, num_blocks=16)
