"""Frequencies of the rope scalings, beside what the golden files cover."""

from dataclasses import replace

import numpy as np
import pytest

from artesian.models import ModelConfig, RopeScaling, create_model
from artesian.models.rope import global_rope, local_rope

CONFIG = ModelConfig(
    architecture="llama",
    vocab_size=8,
    hidden_size=16,
    intermediate_size=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    max_model_len=64,
    norm_eps=1e-5,
    rope_theta=10_000.0,
)
PLAIN = np.asarray([1.0, 0.1, 0.01, 0.001], np.float32)


def test_plain_partial_and_factors() -> None:
    np.testing.assert_allclose(global_rope(CONFIG).inv_freq, PLAIN, rtol=1e-6)
    partial = global_rope(replace(CONFIG, rotary_dim=4))
    np.testing.assert_allclose(partial.inv_freq, [1.0, 0.01], rtol=1e-6)
    factors = RopeScaling("factors", factors=(1.0, 2.0, 4.0, 8.0))
    scaled = global_rope(replace(CONFIG, rope_scaling=factors))
    np.testing.assert_allclose(scaled.inv_freq, PLAIN / [1, 2, 4, 8], rtol=1e-6)


def test_local_layers_are_not_scaled() -> None:
    scaling = RopeScaling("linear", 8.0)
    config = replace(CONFIG, rope_theta_local=100.0, rope_scaling=scaling)
    np.testing.assert_allclose(global_rope(config).inv_freq, PLAIN / 8, rtol=1e-6)
    np.testing.assert_allclose(local_rope(config).inv_freq, 100.0 ** -np.arange(0, 1, 0.25))
    without = replace(CONFIG, rope_scaling=scaling)
    np.testing.assert_allclose(local_rope(without).inv_freq, PLAIN / 8, rtol=1e-6)


def test_yarn_keeps_fast_dimensions_and_stretches_slow_ones() -> None:
    scaling = RopeScaling("yarn", 4.0, original_max_len=64)
    rope = global_rope(replace(CONFIG, rope_scaling=scaling))
    assert rope.inv_freq[0] == 1.0
    assert rope.inv_freq[-1] == pytest.approx(PLAIN[-1] / 4)
    assert rope.magnitude == pytest.approx(0.1 * np.log(4.0) + 1)
    given = replace(scaling, attention_factor=1.25)
    assert global_rope(replace(CONFIG, rope_scaling=given)).magnitude == 1.25


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="'dynamic'"):
        global_rope(replace(CONFIG, rope_scaling=RopeScaling("dynamic", 2.0)))
    with pytest.raises(ValueError, match="'mamba'"):
        create_model(replace(CONFIG, architecture="mamba"), weights=None)  # type: ignore[arg-type]
