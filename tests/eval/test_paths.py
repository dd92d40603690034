"""The ways of computing one model, through the kernels."""

from pathlib import Path

import numpy as np
import pytest

from artesian.loader import open_checkpoint
from artesian.loader.float_checkpoint import FloatCheckpoint
from tests.loader.gguf_files import gguf, llama_metadata, llama_tensors, write

pytest.importorskip("artesian._core", reason="the kernels are not built")


def test_paths_of_a_tiny_model(tmp_path: Path) -> None:
    from artesian.eval import compare_paths

    checkpoint = open_checkpoint(
        write(tmp_path / "m.gguf", gguf(llama_metadata(), llama_tensors()))
    )
    tokens = [int(i) for i in np.random.RandomState(0).randint(2, 8, 90)]
    results = list(
        compare_paths(checkpoint, tokens, window_tokens=40, stride_tokens=20, num_threads=1)
    )
    first, stored, *others = results
    assert first.difference is None
    # This file stores float32, so the two ways are the same.
    assert stored.difference is not None
    assert stored.difference.mean_nats == pytest.approx(0, abs=1e-6)
    for result in others:
        assert result.difference is not None
        assert abs(result.difference.mean_nats) < 0.05
        assert result.perplexity.num_tokens == 89


def test_float_checkpoint_keeps_the_values(smollm2_path: Path) -> None:
    checkpoint = open_checkpoint(smollm2_path)
    floats = FloatCheckpoint(checkpoint)
    tensor = floats.tensor("layers.0.k")
    assert (tensor.format, tensor.shape) == ("f32", (192, 576))
    assert tensor.data.nbytes == 192 * 576 * 4
    assert floats.fingerprint() != checkpoint.fingerprint()
