"""The operations in numpy, as plainly as they can be said: the kernels are compared with them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from artesian.ops.base import F32, Activation, AttentionSpec, KvDtype, KvLayout, Rope

Activations = Literal["f32", "int8_groups"]

_INT8_GROUP = 32
_I32 = npt.NDArray[np.int32]


class Rows(Protocol):
    """The rows of one step; `engine.batch.Batch` is one."""

    @property
    def tokens(self) -> _I32:
        """int32 (num_rows,)."""

    @property
    def positions(self) -> _I32:
        """int32 (num_rows,)."""

    @property
    def row_starts(self) -> _I32:
        """int32 (num_sequences + 1,)."""

    @property
    def context_lens(self) -> _I32:
        """int32 (num_sequences,)."""

    @property
    def block_tables(self) -> _I32:
        """int32 (num_sequences, max_blocks)."""

    @property
    def logit_rows(self) -> _I32:
        """int32 (num_logits,)."""

    @property
    def gates(self) -> Sequence[tuple[int, Any]]:
        """(sequence, `LayerGate`) where blocks are on their way."""

    @property
    def timeout_s(self) -> float:
        """How long gates are waited for."""

    @property
    def remotes(self) -> Sequence[Any]:
        """`RemoteRows` of the last sequences."""

    @property
    def pushes(self) -> Sequence[tuple[int, Any]]:
        """(sequence, `RegionWriter`) whose new keys and values peers get too."""

    @property
    def skips(self) -> Sequence[tuple[int, Any]]:
        """(sequence, `SkipSet`) of those that leave out sublayers."""

    @property
    def probe(self) -> F32 | None:
        """float32 (2, num_sublayers, num_rows): takes how little sublayers change their input."""

    @property
    def failed(self) -> list[int]:
        """Takes the remote sequences whose peers failed."""

    @property
    def sparse(self) -> Sequence[tuple[int, Any]]:
        """(sequence, `SparseAttention`) where not everything is attended to."""

    @property
    def audit(self) -> bool:
        """Whether to find out what was left out."""

    @property
    def reports(self) -> list[Any]:
        """Takes the `SparseReport` of each of those sequences."""


class ReferenceKv:
    """Blocks of K and V as float32 holding values that the layout's dtype can represent.

    `keys` and `values` are (num_layers, num_blocks, block_size_tokens, num_kv_heads, head_dim).
    `ropes` has those of the layers that were stored.
    """

    def __init__(self, layout: KvLayout, num_blocks: int) -> None:
        self.layout = layout
        shape = (
            layout.num_layers,
            num_blocks,
            layout.block_size_tokens,
            layout.num_kv_heads,
            layout.head_dim,
        )
        self.keys: F32 = np.zeros(shape, np.float32)
        self.values: F32 = np.zeros(shape, np.float32)
        self.ropes: dict[int, Rope | None] = {}

    def store(self, layer: int, table: _I32, positions: _I32, keys: F32, values: F32) -> None:
        """Stores rows of (num_kv_heads, head_dim) at their positions in the sequence's blocks."""
        size = self.layout.block_size_tokens
        blocks, slots = table[positions // size], positions % size
        self.keys[layer, blocks, slots] = round_to(keys, self.layout.dtype)
        self.values[layer, blocks, slots] = round_to(values, self.layout.dtype)

    def load(self, layer: int, table: _I32, num_tokens: int) -> tuple[F32, F32]:
        """K and V (num_tokens, num_kv_heads, head_dim) of a sequence's first tokens."""
        size = self.layout.block_size_tokens
        blocks = table[: -(-num_tokens // size)]
        shape = (-1, self.layout.num_kv_heads, self.layout.head_dim)
        keys = self.keys[layer, blocks].reshape(shape)[:num_tokens]
        values = self.values[layer, blocks].reshape(shape)[:num_tokens]
        return keys, values

    def turn(self, from_blocks: list[int], to_blocks: list[int], delta: int) -> None:
        """Copies blocks for tokens `delta` positions further on; see `TurningRunner.turn`."""
        for layer in range(self.layout.num_layers):
            keys, rope = self.keys[layer, from_blocks], self.ropes.get(layer)
            if rope is not None:
                shape = (-1, self.layout.num_kv_heads, self.layout.head_dim)
                deltas = np.full(keys[..., 0, 0].size, delta, np.int32)
                plain = replace(rope, magnitude=1.0)  # stored keys have it
                keys = rotate(keys.reshape(shape), deltas, plain).reshape(keys.shape)
            self.keys[layer, to_blocks] = round_to(keys, self.layout.dtype)
            self.values[layer, to_blocks] = self.values[layer, from_blocks]


class ReferenceOps:
    """`Ops` over one batch, computed at once; a packed weight is a float32 matrix (out, in).

    Args:
        rows: the batch. A sublayer ends where a residual is added; attention is what comes first
            in a layer. What a row leaves out is computed all the same, and thrown away.
        kv: where K and V are kept between batches.
        activations: "int8_groups" rounds the inputs of every linear as the integer kernels do:
            32 at a time to int8 with scale max|x| / 127, ties to even.
    """

    def __init__(self, rows: Rows, kv: ReferenceKv, activations: Activations = "f32") -> None:
        self._rows = rows
        self._kv = kv
        self._activations = activations
        self._sublayer = 0
        self._row_numbers: _I32 = np.arange(len(rows.tokens), dtype=np.int32)
        self._sequences = np.repeat(np.arange(len(rows.context_lens)), np.diff(rows.row_starts))

    def embed(self, table: F32, scale: float = 1.0) -> F32:
        """See `Ops.embed`."""
        return table[self._rows.tokens] * np.float32(scale)

    def rms_norm(self, x: F32, weight: F32, eps: float, residual: F32 | None = None) -> F32:
        """See `Ops.rms_norm`."""
        normed = rms_norm(x, weight, eps)
        return normed if residual is None else self._end_sublayer(residual, normed + residual)

    def linear(
        self,
        x: F32,
        weights: Sequence[F32],
        bias: F32 | None = None,
        residual: F32 | None = None,
    ) -> F32:
        """See `Ops.linear`."""
        if self._activations == "int8_groups":
            x = round_int8_groups(x)
        y: F32 = np.concatenate([x @ weight.T for weight in weights], axis=1)
        if bias is not None:
            y = y + bias
        return y if residual is None else self._end_sublayer(residual, y + residual)

    def _end_sublayer(self, x: F32, y: F32) -> F32:
        """`y`, but the input `x` times a factor where the sublayer is left out (AdaSkip, eq. 3)."""
        rows, sublayer = self._rows, self._sublayer
        self._sublayer += 1
        sequences = self._sequences[self._row_numbers]
        is_computed = np.ones(len(y), bool)
        for sequence, skip in rows.skips:
            if sublayer in skip.sublayers:
                scale = skip.scales[skip.sublayers.index(sublayer)]
                is_computed &= sequences != sequence
                y = np.where((sequences == sequence)[:, None], np.float32(scale) * x, y)
        if rows.probe is not None:
            lengths = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
            cosines = np.sum(x * y, axis=1) / (lengths[0] * lengths[1])
            seen = self._row_numbers[is_computed]
            rows.probe[0, sublayer, seen] = cosines[is_computed]
            rows.probe[1, sublayer, seen] = (lengths[1] / lengths[0])[is_computed]
        return y

    def attention(self, qkv: F32, spec: AttentionSpec) -> F32:
        """See `Ops.attention`."""
        self._sublayer = 2 * spec.layer
        rows, heads, kv_heads = self._rows, spec.num_heads, spec.num_kv_heads
        split = qkv.reshape(len(qkv), heads + 2 * kv_heads, spec.head_dim)
        queries, keys = split[:, :heads], split[:, heads : heads + kv_heads]
        values = split[:, heads + kv_heads :]
        if spec.q_norm is not None:
            queries = rms_norm(queries, spec.q_norm, spec.norm_eps)
        if spec.k_norm is not None:
            keys = rms_norm(keys, spec.k_norm, spec.norm_eps)
        if spec.rope is not None:
            queries = rotate(queries, rows.positions, spec.rope)
            keys = rotate(keys, rows.positions, spec.rope)
        self._kv.ropes[spec.layer] = spec.rope
        out = np.empty_like(queries)
        for index, table in enumerate(rows.block_tables):
            own = slice(rows.row_starts[index], rows.row_starts[index + 1])
            positions = rows.positions[own]
            self._kv.store(spec.layer, table, positions, keys[own], values[own])
            seen = self._kv.load(spec.layer, table, int(rows.context_lens[index]))
            out[own] = attend(queries[own], *seen, positions, spec)
        return out.reshape(len(qkv), heads * spec.head_dim)

    def gated(self, gate_up: F32, activation: Activation) -> F32:
        """See `Ops.gated`."""
        gate, up = np.split(gate_up, 2, axis=1)
        act: F32 = silu(gate) if activation == "silu" else gelu_tanh(gate)
        return act * up

    def add(self, x: F32, y: F32) -> F32:
        """See `Ops.add`."""
        return x + y

    def logit_rows(self, x: F32) -> F32:
        """See `Ops.logit_rows`."""
        self._row_numbers = self._rows.logit_rows
        return x[self._rows.logit_rows]

    def softcap(self, x: F32, cap: float) -> F32:
        """See `Ops.softcap`."""
        capped: F32 = np.float32(cap) * np.tanh(x / np.float32(cap))
        return capped


def rms_norm(x: F32, weight: F32, eps: float) -> F32:
    """`x / sqrt(mean(x²) + eps) * weight` over the last axis."""
    mean_square = np.mean(np.square(x, dtype=np.float32), axis=-1, keepdims=True)
    normed: F32 = x / np.sqrt(mean_square + np.float32(eps)) * weight
    return normed


def silu(x: F32) -> F32:
    """`x / (1 + exp(-x))`."""
    y: F32 = x / (1 + np.exp(-np.clip(x, -80, None)))
    return y


def gelu_tanh(x: F32) -> F32:
    """The tanh approximation of GELU."""
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    y: F32 = np.float32(0.5) * x * (1 + np.tanh(inner))
    return y


def rotate(x: F32, positions: _I32, rope: Rope) -> F32:
    """Rotates (rows, heads, head_dim) by the angle of each row's position."""
    num_pairs = len(rope.inv_freq)
    angles = positions[:, None].astype(np.float64) * rope.inv_freq.astype(np.float64)
    cos = (np.cos(angles) * rope.magnitude).astype(np.float32)[:, None, :]
    sin = (np.sin(angles) * rope.magnitude).astype(np.float32)[:, None, :]
    if rope.interleaved:
        first, second = slice(0, 2 * num_pairs, 2), slice(1, 2 * num_pairs, 2)
    else:
        first, second = slice(0, num_pairs), slice(num_pairs, 2 * num_pairs)
    out = x.copy()
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., second] * cos + x[..., first] * sin
    return out


def attend(queries: F32, keys: F32, values: F32, positions: _I32, spec: AttentionSpec) -> F32:
    """Causal attention of (rows, num_heads, head_dim) over (tokens, num_kv_heads, head_dim)."""
    group = spec.num_heads // spec.num_kv_heads
    by_head = np.repeat(keys, group, axis=1).transpose(1, 2, 0)
    scores = queries.transpose(1, 0, 2) @ by_head * np.float32(spec.scale)
    if spec.softcap is not None:
        scores = np.float32(spec.softcap) * np.tanh(scores / np.float32(spec.softcap))
    distance = positions[:, None] - np.arange(len(keys))[None, :]
    hidden = distance < 0
    if spec.window is not None:
        hidden |= distance >= spec.window
    scores = np.where(hidden, np.float32(-np.inf), scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    attended: F32 = weights @ np.repeat(values, group, axis=1).transpose(1, 0, 2)
    return attended.transpose(1, 0, 2)


def round_int8_groups(x: F32) -> F32:
    """The values that int8 groups of 32 keep of `x`; a shorter last group is a group of its own."""
    width = x.shape[-1]
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -width % _INT8_GROUP)])
    groups = padded.reshape(*x.shape[:-1], -1, _INT8_GROUP)
    scale = np.abs(groups).max(axis=-1, keepdims=True) / np.float32(127)
    steps = np.rint(groups / np.where(scale == 0, np.float32(1), scale))
    rounded: F32 = (steps * scale).reshape(padded.shape)[..., :width]
    return rounded


def round_to(x: F32, dtype: KvDtype) -> F32:
    """The nearest values that `dtype` can hold; int8 has one scale (max|x| / 127) per last axis."""
    if dtype == "f16":
        return x.astype(np.float16).astype(np.float32)
    if dtype == "bf16":
        bits = np.ascontiguousarray(x).view(np.uint32)
        rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
        return rounded.view(np.float32)
    if dtype == "int8":
        scale = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
        kept: F32 = np.rint(x / np.where(scale == 0, np.float32(1), scale)) * scale
        return kept
    return x
