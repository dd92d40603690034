"""The demo models give the logits and tokens that Transformers gives for their float32 values."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artesian.loader import Checkpoint, open_checkpoint
from artesian.loader.reference import ReferenceRunner
from tests.golden.running import greedy, logits_at

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "real.json").read_text())


@pytest.fixture(
    scope="module",
    params=["smollm2_path", pytest.param("gemma3_path", marks=pytest.mark.slow)],
)
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    return open_checkpoint(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def runner(checkpoint: Checkpoint) -> ReferenceRunner:
    return ReferenceRunner(checkpoint)


def test_logits(checkpoint: Checkpoint, runner: ReferenceRunner) -> None:
    golden = GOLDEN[checkpoint.name]
    positions = [row["position"] for row in golden["rows"]]
    logits = logits_at(runner, golden["tokens"], positions, chunk=64)
    for got, row in zip(logits, golden["rows"], strict=True):
        np.testing.assert_allclose(got[:: golden["step"]], row["logits"], atol=2e-3)
        np.testing.assert_allclose(got[row["top_ids"]], row["top_logits"], atol=2e-3)


@pytest.mark.slow
def test_greedy_tokens(checkpoint: Checkpoint, runner: ReferenceRunner) -> None:
    golden = GOLDEN[checkpoint.name]
    assert greedy(runner, golden["tokens"], 32) == golden["greedy"]
