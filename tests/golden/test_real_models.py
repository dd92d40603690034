"""The demo models give the logits and tokens that Transformers gives for their float32 values."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artesian.loader import Checkpoint, open_checkpoint
from artesian.loader.reference import ReferenceRunner
from artesian.ops.base import KvLayout
from tests.golden.running import greedy, logits_at, native_isas, native_runner

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


@pytest.mark.slow
@pytest.mark.parametrize("isa", native_isas())
def test_kernels_agree_on_likely_tokens(checkpoint: Checkpoint, isa: str) -> None:
    """Integer arithmetic moves logits a little; likely tokens stay likely."""
    golden = GOLDEN[checkpoint.name]
    config = checkpoint.config
    layout = KvLayout(config.num_layers, config.num_kv_heads, config.head_dim, dtype="f16")
    native = native_runner(checkpoint, layout, 16, isa)
    positions = [row["position"] for row in golden["rows"]]
    for chunk in (64, 1):
        logits = logits_at(native, golden["tokens"], positions, chunk)
        for got, row in zip(logits, golden["rows"], strict=True):
            expected = np.asarray(row["top_logits"])
            np.testing.assert_allclose(got[row["top_ids"]], expected, atol=1.0)
            # The best token, unless the runner-up is as close as the arithmetic.
            assert expected[row["top_ids"].index(int(got.argmax()))] > expected[0] - 0.5
