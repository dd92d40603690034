"""What every model is: a config and a forward pass over `Ops`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol

from artesian.ops.base import Activation, Ops, T, W_co


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How positions are stretched beyond training: `kind` is none, linear, llama3, yarn or factors.

    `factors` divide the angle of each pair of dimensions, one by one (GGUF's rope_freqs tensor).
    """

    kind: str = "none"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    original_max_len: int = 0
    factors: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a model, whatever file it came from; lengths in tokens.

    `architecture` names the model file.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_model_len: int
    norm_eps: float
    rope_theta: float
    rope_theta_local: float | None = None
    rope_scaling: RopeScaling = field(default_factory=RopeScaling)
    rope_interleaved: bool = False
    rotary_dim: int | None = None
    activation: Activation = "silu"
    attention_scale: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    sliding_window: int | None = None
    layer_windows: Sequence[int | None] = ()
    tie_embeddings: bool = False


class Model(Protocol, Generic[T, W_co]):
    """A model whose weights are packed for one backend."""

    config: ModelConfig

    def forward(self, ops: Ops[T, W_co]) -> T:
        """Logits (num_logits, vocab_size) of the batch that `ops` stands for."""
