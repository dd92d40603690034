"""Works out the frequencies of rotary position embeddings."""

import math

import numpy as np

from artesian.models.base import ModelConfig, RopeScaling
from artesian.ops.base import F32, Rope


def global_rope(config: ModelConfig) -> Rope:
    """The rope of layers that see the whole context, scaled as the config says."""
    return _rope(config, config.rope_theta, config.rope_scaling)


def local_rope(config: ModelConfig) -> Rope:
    """The rope of sliding-window layers: unscaled, with a base of its own where there is one."""
    if config.rope_theta_local is None:
        return global_rope(config)
    return _rope(config, config.rope_theta_local, RopeScaling())


def _rope(config: ModelConfig, theta: float, scaling: RopeScaling) -> Rope:
    rotary_dim = config.rotary_dim or config.head_dim
    exponents = np.arange(0, rotary_dim, 2, dtype=np.float64) / rotary_dim
    plain = theta**-exponents
    magnitude = 1.0
    if scaling.kind == "none":
        scaled = plain
    elif scaling.kind == "linear":
        scaled = plain / scaling.factor
    elif scaling.kind == "factors":
        scaled = plain / np.asarray(scaling.factors)
    elif scaling.kind == "llama3":
        scaled = _llama3(plain, scaling)
    elif scaling.kind == "yarn":
        scaled = _yarn(plain, scaling, theta, rotary_dim, config.max_model_len)
        magnitude = scaling.attention_factor or 0.1 * math.log(scaling.factor) + 1.0
    else:
        raise ValueError(
            f"the rope scaling {scaling.kind!r} is not supported, only "
            "linear, llama3, yarn and factors"
        )
    frequencies: F32 = scaled.astype(np.float32)
    return Rope(frequencies, config.rope_interleaved, magnitude)


def _llama3(plain: np.ndarray, scaling: RopeScaling) -> np.ndarray:
    """Long waves are stretched by `factor`, short ones kept, those between blended."""
    wavelengths = 2 * math.pi / plain
    turns = scaling.original_max_len / wavelengths
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    blended: np.ndarray = (1 - keep) * plain / scaling.factor + keep * plain
    return blended


def _yarn(
    plain: np.ndarray, scaling: RopeScaling, theta: float, rotary_dim: int, max_len: int
) -> np.ndarray:
    """YaRN (2309.00071): interpolate slow dimensions, keep fast ones, a linear ramp between."""
    original = scaling.original_max_len or max_len

    def dimension_with(num_rotations: float) -> float:
        ratio = original / (num_rotations * 2 * math.pi)
        return rotary_dim * math.log(ratio) / (2 * math.log(theta))

    first = max(math.floor(dimension_with(scaling.beta_fast)), 0)
    last = min(math.ceil(dimension_with(scaling.beta_slow)), rotary_dim - 1)
    ramp = (np.arange(len(plain)) - first) / max(last - first, 0.001)
    interpolate = np.clip(ramp, 0.0, 1.0)
    scaled: np.ndarray = plain / scaling.factor * interpolate + plain * (1 - interpolate)
    return scaled
