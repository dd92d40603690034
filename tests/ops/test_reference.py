"""The numpy operations against their definitions, one number at a time."""

import math

import numpy as np
import pytest

from artesian.ops.base import F32, AttentionSpec, KvDtype, KvLayout, Rope
from artesian.ops.reference import (
    ReferenceKv,
    ReferenceOps,
    attend,
    gelu_tanh,
    rms_norm,
    rotate,
    round_int8_groups,
    round_to,
    silu,
)
from tests.golden.running import one_sequence

RANDOM = np.random.RandomState(5)


def randn(*shape: int) -> F32:
    return RANDOM.standard_normal(shape).astype(np.float32)


def test_rms_norm_and_activations() -> None:
    x, weight = randn(3, 8), randn(8)
    for row, normed in zip(x, rms_norm(x, weight, 1e-3), strict=True):
        scale = math.sqrt(sum(float(v) ** 2 for v in row) / 8 + 1e-3)
        np.testing.assert_allclose(normed, row / scale * weight, rtol=1e-5)
    for v in (-200.0, -1.5, 0.0, 3.0, 200.0):
        at = np.asarray([v], np.float32)
        assert silu(at)[0] == pytest.approx(v / (1 + math.exp(-max(v, -80))), abs=1e-6)
        inner = math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)
        assert gelu_tanh(at)[0] == pytest.approx(0.5 * v * (1 + math.tanh(inner)), abs=1e-5)


def test_rope_turns_pairs_and_leaves_the_rest() -> None:
    rope = Rope(np.asarray([1.0, 0.1], np.float32), magnitude=1.5)
    x = randn(2, 1, 6)
    turned = rotate(x, np.asarray([0, 7], np.int32), rope)
    np.testing.assert_allclose(turned[0, 0, :4], 1.5 * x[0, 0, :4], rtol=1e-6)
    pair = complex(x[1, 0, 1], x[1, 0, 3]) * complex(math.cos(0.7), math.sin(0.7)) * 1.5
    assert turned[1, 0, 1] == pytest.approx(pair.real, rel=1e-5)
    assert turned[1, 0, 3] == pytest.approx(pair.imag, rel=1e-5)
    np.testing.assert_array_equal(turned[..., 4:], x[..., 4:])


def test_interleaved_rope_is_the_other_order_of_dimensions() -> None:
    frequencies = np.asarray([1.0, 0.3, 0.01], np.float32)
    positions = np.asarray([3, 9], np.int32)
    x = randn(2, 2, 6)
    order = [0, 2, 4, 1, 3, 5]
    halves = rotate(x[..., order], positions, Rope(frequencies))
    pairs = rotate(x, positions, Rope(frequencies, interleaved=True))
    np.testing.assert_allclose(pairs[..., order], halves, rtol=1e-6)


@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_attention_by_definition(window: int | None, softcap: float | None) -> None:
    spec = AttentionSpec(0, 4, 2, 8, scale=0.3, window=window, softcap=softcap)
    queries, keys, values = randn(2, 4, 8), randn(6, 2, 8), randn(6, 2, 8)
    got = attend(queries, keys, values, np.asarray([4, 5], np.int32), spec)
    for row, position in enumerate((4, 5)):
        first = 0 if window is None else position - window + 1
        for head in range(4):
            scores = [0.3 * float(queries[row, head] @ keys[t, head // 2]) for t in range(6)]
            if softcap is not None:
                scores = [softcap * math.tanh(score / softcap) for score in scores]
            weights = [math.exp(scores[t]) for t in range(first, position + 1)]
            pairs = zip(weights, values[first : position + 1, head // 2], strict=True)
            expected = sum(w * v for w, v in pairs) / sum(weights)
            np.testing.assert_allclose(got[row, head], expected, atol=1e-5)


def test_chunks_see_what_was_stored_before() -> None:
    layout = KvLayout(1, 2, 8, block_size_tokens=4, dtype="f32")
    rope = Rope(np.asarray([1.0, 0.5, 0.2, 0.1], np.float32))
    spec = AttentionSpec(0, 4, 2, 8, scale=0.3, rope=rope, q_norm=randn(8), k_norm=randn(8))
    qkv = randn(10, 64)

    def run(chunk: int) -> F32:
        kv = ReferenceKv(layout, 4)
        parts = []
        for start in range(0, 10, chunk):
            piece = qkv[start : start + chunk]
            batch = one_sequence([0] * len(piece), start, 4, [])
            parts.append(ReferenceOps(batch, kv).attention(piece, spec))
        return np.concatenate(parts)

    for chunk in (1, 3, 7):
        np.testing.assert_allclose(run(chunk), run(10), atol=1e-5)


def test_linear_joins_outputs_then_adds() -> None:
    ops = ReferenceOps(one_sequence([0], 0, 1, [0]), ReferenceKv(KvLayout(1, 1, 2), 1))
    x, a, b, bias, residual = randn(3, 5), randn(2, 5), randn(4, 5), randn(6), randn(3, 6)
    expected = np.concatenate([x @ a.T, x @ b.T], axis=1) + bias + residual
    np.testing.assert_allclose(ops.linear(x, [a, b], bias, residual), expected, rtol=1e-6)


def test_int8_groups_keep_127_steps_each_way() -> None:
    x = np.concatenate([np.linspace(-2, 2, 32), np.zeros(32), [1.0, -0.3]])[None]
    rounded = round_int8_groups(x.astype(np.float32))[0]
    steps = rounded[:32] * 127 / 2
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
    assert np.abs(rounded[:32] - x[0, :32]).max() <= 1 / 127 + 1e-6
    assert not rounded[32:64].any()
    np.testing.assert_allclose(rounded[64:], [1.0, np.rint(-0.3 * 127) / 127], rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "relative"), [("f32", 0), ("f16", 2**-11), ("bf16", 2**-8), ("int8", 0.5 / 127)]
)
def test_rounding_of_kv(dtype: KvDtype, relative: float) -> None:
    x = randn(50, 16)
    largest = np.abs(x).max(axis=-1, keepdims=True) if dtype == "int8" else np.abs(x)
    error = np.abs(round_to(x, dtype) - x)
    assert (error <= relative * largest + 1e-7).all()
    np.testing.assert_array_equal(round_to(round_to(x, "bf16"), "bf16"), round_to(x, "bf16"))


def test_bf16_rounds_ties_to_even() -> None:
    ties = np.asarray([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8)], np.float32)
    np.testing.assert_array_equal(round_to(ties, "bf16"), [1, 1 + 2**-6, -1])
