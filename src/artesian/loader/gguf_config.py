"""Reads a `ModelConfig` from GGUF metadata."""

from typing import TypeVar

from artesian.loader.base import CheckpointError
from artesian.loader.gguf_header import GgufHeader
from artesian.models.base import ModelConfig, RopeScaling

_ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3")
_GEMMA3_LOCAL_ROPE_THETA = 10_000.0
_GEMMA3_WINDOW_PATTERN = 6
_GEMMA3_27B_LAYERS = 62

_V = TypeVar("_V", int, float, str)


class _Metadata:
    """Typed look-ups of `<architecture>.<key>`."""

    def __init__(self, header: GgufHeader, architecture: str) -> None:
        self._header = header
        self._prefix = architecture

    def get(self, key: str, default: _V) -> _V:
        """The value, or the default when it is absent."""
        name = f"{self._prefix}.{key}"
        if name not in self._header.scalars:
            return default
        value = self._header.scalars[name]
        kind = type(default)
        if kind is float and isinstance(value, int | float):
            return float(value)  # type: ignore[return-value]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise CheckpointError(
                f"{self._header.path}: metadata {name} is {value!r}, expected {kind.__name__}"
            )
        return value

    def require(self, key: str) -> int:
        """The integer under a key that every model has."""
        name = f"{self._prefix}.{key}"
        if name in self._header.arrays:
            values = {int(value) for value in self._header.numbers(name).tolist()}
            if len(values) == 1:
                return values.pop()
            raise CheckpointError(
                f"{self._header.path}: {name} differs from layer to layer, which is not supported"
            )
        if name not in self._header.scalars:
            raise CheckpointError(
                f"{self._header.path}: metadata {name} is missing; convert the model again"
            )
        return self.get(key, 0)


def read_config(header: GgufHeader) -> ModelConfig:
    """The model's shape. Raises `CheckpointError` for architectures that are not supported."""
    architecture = header.scalars.get("general.architecture")
    if architecture not in _ARCHITECTURES:
        raise CheckpointError(
            f"{header.path} has the architecture {architecture!r}; supported are "
            f"{', '.join(_ARCHITECTURES)}"
        )
    meta = _Metadata(header, str(architecture))
    embed = header.tensors.get("token_embd.weight")
    if embed is None or len(embed.shape) != 2:
        raise CheckpointError(f"{header.path}: the tensor token_embd.weight is missing")
    hidden, num_heads = meta.require("embedding_length"), meta.require("attention.head_count")
    head_dim = meta.get("attention.key_length", hidden // max(num_heads, 1))
    if meta.get("attention.value_length", head_dim) != head_dim:
        raise CheckpointError(f"{header.path}: keys and values of different length: not supported")
    if meta.get("expert_count", 0) > 0:
        raise CheckpointError(f"{header.path} is a mixture of experts, which is not supported")
    num_layers = meta.require("block_count")
    gemma = architecture == "gemma3"
    window = meta.get("attention.sliding_window", 0) or None
    return ModelConfig(
        architecture=str(architecture),
        vocab_size=embed.shape[0],
        hidden_size=hidden,
        intermediate_size=meta.require("feed_forward_length"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=_num_kv_heads(meta, header, str(architecture), num_heads),
        head_dim=head_dim,
        max_model_len=meta.require("context_length"),
        norm_eps=meta.get("attention.layer_norm_rms_epsilon", 1e-6),
        rope_theta=meta.get("rope.freq_base", 1_000_000.0 if gemma else 10_000.0),
        rope_theta_local=meta.get("rope.freq_base_swa", _GEMMA3_LOCAL_ROPE_THETA)
        if gemma
        else None,
        rope_scaling=_rope_scaling(meta, header),
        # Converters permute the rows of Llama's Q and K so that a pair's dimensions are neighbours.
        rope_interleaved=architecture == "llama",
        rotary_dim=meta.get("rope.dimension_count", head_dim),
        activation="gelu_tanh" if gemma else "silu",
        attention_scale=(hidden / num_heads) ** -0.5
        if gemma and num_layers == _GEMMA3_27B_LAYERS
        else None,
        attention_softcap=meta.get("attn_logit_softcapping", 0.0) or None,
        logit_softcap=meta.get("final_logit_softcapping", 0.0) or None,
        sliding_window=window,
        layer_windows=_layer_windows(meta, window, num_layers, gemma),
        tie_embeddings="output.weight" not in header.tensors,
    )


def _num_kv_heads(meta: _Metadata, header: GgufHeader, architecture: str, num_heads: int) -> int:
    key = f"{architecture}.attention.head_count_kv"
    if key in header.scalars or key in header.arrays:
        return meta.require("attention.head_count_kv")
    return num_heads


def _layer_windows(
    meta: _Metadata, window: int | None, num_layers: int, gemma: bool
) -> tuple[int | None, ...]:
    if window is None or num_layers > 1 << 16:
        return ()
    if not gemma:
        return (window,) * num_layers
    pattern = max(1, meta.get("attention.sliding_window_pattern", _GEMMA3_WINDOW_PATTERN))
    return tuple(None if (i + 1) % pattern == 0 else window for i in range(num_layers))


def _rope_scaling(meta: _Metadata, header: GgufHeader) -> RopeScaling:
    factors = header.tensors.get("rope_freqs.weight")
    if factors is not None:
        if factors.format != "f32" or len(factors.shape) != 1:
            raise CheckpointError(f"{header.path}: rope_freqs.weight must be a vector of f32")
        return RopeScaling("factors", factors=tuple(header.floats(factors).tolist()))
    kind = meta.get("rope.scaling.type", "none")
    factor = meta.get("rope.scaling.factor", 1.0)
    if kind == "none" or factor == 1.0:
        return RopeScaling()
    if kind not in ("linear", "yarn"):
        raise CheckpointError(f"{header.path}: rope scaling {kind!r} is not supported")
    return RopeScaling(
        kind,
        factor,
        original_max_len=meta.get("rope.scaling.original_context_length", 0),
    )
