"""The operations that models are made of.

A model file is written once over `Ops`. `ops.reference` computes each operation at once in numpy:
the slow obvious twin. `ops.native` records them, once, into a program that Rust then runs for every
batch without Python in the way.

Rows are the tokens of a batch, in the batch's order; every value is float32 of shape
(num_rows, width).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

T = TypeVar("T")
"""A value of one backend: an array (reference) or a register of the program (native)."""

W = TypeVar("W")
"""A packed linear weight of one backend."""

W_co = TypeVar("W_co", covariant=True)
W_contra = TypeVar("W_contra", contravariant=True)

Activation = Literal["silu", "gelu_tanh"]
KvDtype = Literal["f32", "f16", "bf16", "int8"]
KvSummaries = Literal["none", "cuboid", "mean", "min-max"]
"""What is kept of the keys of 32 tokens, after rope, for sparse attention to choose by: the centre
of their bounding box and their mean distance from it; their mean; the centre and half the size."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding with its frequencies worked out.

    Attributes:
        inv_freq: float32 (num_pairs,), angle per position of each rotated pair; scaling (llama3,
            yarn, linear) is already applied. Partial rope rotates the first 2 * num_pairs
            dimensions of a head.
        interleaved: pairs are (0, 1), (2, 3), ... as in GGUF files of Llama; else
            (i, i + num_pairs).
        magnitude: factor on cos and sin (yarn's attention factor).
    """

    inv_freq: F32
    interleaved: bool = False
    magnitude: float = 1.0


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """Everything about one attention sublayer except its linear weights.

    Attributes:
        layer: index of the layer's KV in the arena.
        scale: factor on q·k before the soft-cap.
        window: a token sees itself and the window - 1 tokens before it; None sees all.
        softcap: scores become softcap * tanh(score / softcap).
        q_norm, k_norm: float32 (head_dim,), RMS norm of each head before rope; None for none.
    """

    layer: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    rope: Rope | None = None
    window: int | None = None
    softcap: float | None = None
    q_norm: F32 | None = None
    k_norm: F32 | None = None
    norm_eps: float = 1e-6


@dataclass(frozen=True, slots=True)
class KvLayout:
    """Shape of the KV of one model, shared by the block pool and the attention kernels."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    block_size_tokens: int = 32
    dtype: KvDtype = "f16"
    summaries: KvSummaries = "none"


class Ops(Protocol[T, W_contra]):
    """What a model may do. All methods are pure but `attention`, which also stores KV."""

    def embed(self, table: W_contra, scale: float = 1.0) -> T:
        """Rows of `table` (vocab_size, width) for the batch's tokens, times `scale`."""

    def rms_norm(self, x: T, weight: F32, eps: float, residual: T | None = None) -> T:
        """`x / sqrt(mean(x²) + eps) * weight` per row, plus `residual`.

        Gemma's 1 + w is folded in at loading.
        """

    def linear(
        self,
        x: T,
        weights: Sequence[W_contra],
        bias: F32 | None = None,
        residual: T | None = None,
    ) -> T:
        """`concatenate([x @ w.T for w in weights], axis=1) + bias + residual`; w is (out, in)."""

    def attention(self, qkv: T, spec: AttentionSpec) -> T:
        """Norms, rotates and stores K and V of every row, then attends over its sequence.

        `qkv` is (rows, (num_heads + 2 * num_kv_heads) * head_dim): all query heads, key heads,
        value heads.
        Returns (rows, num_heads * head_dim).
        """

    def gated(self, gate_up: T, activation: Activation) -> T:
        """`activation(gate) * up`; `gate_up` = [gate | up]: (rows, 2 * width) to (rows, width)."""

    def add(self, x: T, y: T) -> T:
        """`x + y`."""

    def logit_rows(self, x: T) -> T:
        """Only the rows of which the batch wants logits, in `batch.logit_rows` order."""

    def softcap(self, x: T, cap: float) -> T:
        """`cap * tanh(x / cap)`."""


class WeightSource(Protocol[W_co]):
    """Hands a model its tensors under canonical names, packed for one backend.

    Canonical names: `embed`, `norm`, `head` (absent when tied to `embed`), and for each layer i
    `layers.{i}.` + attn_norm, q, k, v, o, q_bias, k_bias, v_bias, q_norm, k_norm, post_attn_norm,
    mlp_norm, gate, up, down, post_mlp_norm.
    """

    def linear(self, name: str) -> W_co:
        """The (out, in) weight of that name, packed. Raises `KeyError` naming it when absent."""

    def vector(self, name: str) -> F32:
        """A float32 vector (norm weight or bias). Raises `KeyError` naming it when absent."""

    def __contains__(self, name: str) -> bool: ...


class Runner(Protocol):
    """Runs a model over batches, on an arena of KV blocks that it was given."""

    def forward(self, batch: Any) -> F32:
        """Logits float32 (len(batch.logit_rows), vocab_size) of a `Batch`; stores its KV."""


class TurningRunner(Runner, Protocol):
    """A runner that can move KV to new positions."""

    def turn(self, from_blocks: Sequence[int], to_blocks: Sequence[int], delta: int) -> None:
        """Copies each of `from_blocks` to the one of `to_blocks` at the same place, for tokens that
        stand `delta` positions further on (negative: earlier).

        Keys are rotated by the difference, as their layers rotate, and rounded once more; values
        are copied. No block may be a target twice, nor source and target.
        """
