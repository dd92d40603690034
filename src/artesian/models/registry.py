"""Finds the model of an architecture."""

from collections.abc import Callable
from typing import Any

from artesian.models.base import Model, ModelConfig
from artesian.models.gemma3 import Gemma3Model
from artesian.models.llama import LlamaModel
from artesian.models.qwen2 import Qwen2Model
from artesian.models.qwen3 import Qwen3Model
from artesian.ops.base import W, WeightSource

ARCHITECTURES: dict[str, Callable[[ModelConfig, Any], Model[Any, Any]]] = {
    "llama": LlamaModel,
    "qwen2": Qwen2Model,
    "qwen3": Qwen3Model,
    "gemma3": Gemma3Model,
}


def create_model(config: ModelConfig, weights: WeightSource[W]) -> Model[Any, W]:
    """The model of `config.architecture`, its weights taken from `weights`.

    Raises:
        ValueError: the architecture is not known.
        KeyError: a tensor is missing.
    """
    if config.architecture not in ARCHITECTURES:
        raise ValueError(
            f"the architecture {config.architecture!r} is not supported, only "
            f"{', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[config.architecture](config, weights)
