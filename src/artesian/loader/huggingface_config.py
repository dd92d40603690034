"""Reads a `ModelConfig` from config.json."""

from pathlib import Path
from typing import Any, TypeVar

from artesian.loader.base import CheckpointError
from artesian.models.base import ModelConfig, RopeScaling
from artesian.ops.base import Activation

_ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3_text": "gemma3",
    "gemma3": "gemma3",
}
_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
}
# What Transformers assumes for Gemma 3 when config.json leaves it out.
_GEMMA3_DEFAULTS: dict[str, Any] = {
    "vocab_size": 262_208,
    "head_dim": 256,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131_072,
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
}

_V = TypeVar("_V", int, float, str, bool)


class _Config:
    """Typed look-ups in config.json; null counts as absent."""

    def __init__(self, values: dict[str, Any], path: Path) -> None:
        self.values = values
        self.path = path

    def get(self, key: str, default: _V) -> _V:
        value = self.values.get(key)
        if value is None:
            return default
        kind = type(default)
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)  # type: ignore[return-value]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(f"{key} is {value!r}, expected {kind.__name__}")
        return value

    def require(self, key: str) -> int:
        if self.values.get(key) is None:
            raise self.error(f"{key} is missing")
        return self.get(key, 0)

    def table(self, key: str) -> dict[str, Any]:
        value = self.values.get(key) or {}
        if not isinstance(value, dict):
            raise self.error(f"{key} is {value!r}, expected an object")
        return value

    def error(self, message: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {message}")


def read_config(raw: dict[str, Any], path: Path) -> ModelConfig:
    """The model's shape. Raises `CheckpointError` for what is not supported."""
    model_type = raw.get("model_type")
    architecture = _ARCHITECTURES.get(str(model_type))
    if architecture is None:
        raise CheckpointError(
            f"{path}: the model type {model_type!r} is not supported, only "
            f"{', '.join(_ARCHITECTURES)}"
        )
    if raw.get("quantization_config"):
        raise CheckpointError(
            f"{path}: quantised safetensors are not supported; take the original or a GGUF file"
        )
    # Models that also see images keep the text model's config one level down.
    values = {**raw, **(raw["text_config"] if isinstance(raw.get("text_config"), dict) else {})}
    gemma = architecture == "gemma3"
    config = _Config({**_GEMMA3_DEFAULTS, **values} if gemma else values, path)
    hidden, num_heads = config.require("hidden_size"), config.require("num_attention_heads")
    num_layers = config.require("num_hidden_layers")
    head_dim = config.get("head_dim", hidden // max(num_heads, 1))
    windows = _layer_windows(config, architecture, num_layers)
    theta, local_theta, scaling = _rope(config, gemma)
    scalar = config.get("query_pre_attn_scalar", 0.0)
    partial = config.get("partial_rotary_factor", 1.0)
    return ModelConfig(
        architecture=architecture,
        vocab_size=config.require("vocab_size"),
        hidden_size=hidden,
        intermediate_size=config.require("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=config.get("num_key_value_heads", num_heads),
        head_dim=head_dim,
        max_model_len=config.get("max_position_embeddings", 2048),
        norm_eps=config.get("rms_norm_eps", 1e-6),
        rope_theta=theta,
        rope_theta_local=local_theta,
        rope_scaling=scaling,
        rotary_dim=int(head_dim * partial),
        activation=_activation(config, gemma),
        attention_scale=scalar**-0.5 if scalar > 0 else None,
        attention_softcap=config.get("attn_logit_softcapping", 0.0) or None,
        logit_softcap=config.get("final_logit_softcapping", 0.0) or None,
        sliding_window=next((window for window in windows if window), None),
        layer_windows=windows,
        tie_embeddings=config.get("tie_word_embeddings", False),
    )


def _activation(config: _Config, gemma: bool) -> Activation:
    name = config.get("hidden_activation" if gemma else "hidden_act", "silu")
    if name not in _ACTIVATIONS:
        raise config.error(
            f"the activation {name!r} is not supported, only {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


def _layer_windows(config: _Config, architecture: str, num_layers: int) -> tuple[int | None, ...]:
    """The window of each layer; empty when no layer has one."""
    window = config.get("sliding_window", 0)
    if architecture.startswith("qwen") and not config.get("use_sliding_window", False):
        window = 0
    if window <= 0 or not 0 < num_layers < 1 << 16:
        return ()
    kinds = config.values.get("layer_types")
    if isinstance(kinds, list):
        if len(kinds) != num_layers or set(kinds) - {"sliding_attention", "full_attention"}:
            raise config.error(f"layer_types is {kinds!r:.200}, expected {num_layers} kinds")
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    if architecture == "gemma3":
        pattern = max(1, config.get("sliding_window_pattern", 6))
        return tuple(None if (i + 1) % pattern == 0 else window for i in range(num_layers))
    first = config.get("max_window_layers", 28) if architecture.startswith("qwen") else 0
    return tuple(window if index >= first else None for index in range(num_layers))


def _rope(config: _Config, gemma: bool) -> tuple[float, float | None, RopeScaling]:
    """Base, base of local layers, scaling: from `rope_parameters`, or the older separate keys."""
    parameters = config.table("rope_parameters")
    local = config.get("rope_local_base_freq", 10_000.0) if gemma else None
    if isinstance(parameters.get("sliding_attention"), dict):
        sliding = _Config(parameters["sliding_attention"], config.path)
        local = sliding.get("rope_theta", 10_000.0)
    if isinstance(parameters.get("full_attention"), dict):
        parameters = parameters["full_attention"]
    theta = _Config(parameters, config.path).get("rope_theta", config.get("rope_theta", 10_000.0))
    return theta, local, _scaling(_Config(parameters or config.table("rope_scaling"), config.path))


def _scaling(table: _Config) -> RopeScaling:
    kind = table.get("rope_type", table.get("type", "default"))
    if kind == "default":
        return RopeScaling()
    if kind not in ("linear", "llama3", "yarn"):
        raise table.error(
            f"the rope scaling {kind!r} is not supported, only linear, llama3 and yarn"
        )
    factor = table.get("factor", 1.0)
    if not factor >= 1.0:
        raise table.error(f"the rope scaling factor is {factor}, it must be at least 1")
    return RopeScaling(
        kind,
        factor,
        low_freq_factor=table.get("low_freq_factor", 1.0),
        high_freq_factor=table.get("high_freq_factor", 4.0),
        beta_fast=table.get("beta_fast", 32.0),
        beta_slow=table.get("beta_slow", 1.0),
        attention_factor=table.get("attention_factor", 0.0) or None,
        original_max_len=table.get("original_max_position_embeddings", 0),
    )
