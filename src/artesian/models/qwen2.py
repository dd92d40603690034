"""Qwen2 and Qwen2.5: Llama with biases on Q, K and V."""

import numpy as np

from artesian.models.llama import LlamaLayer, LlamaModel
from artesian.ops.base import F32, T, W, WeightSource


class Qwen2Layer(LlamaLayer[T, W]):
    """A Llama layer with biases."""

    def load_qkv_bias(self, weights: WeightSource[W], layer: str) -> F32:
        """Biases of Q, K and V one after the other."""
        return np.concatenate([weights.vector(f"{layer}{name}_bias") for name in "qkv"])


class Qwen2Model(LlamaModel[T, W]):
    """Qwen2."""

    def load_layer(self, weights: WeightSource[W], index: int) -> LlamaLayer[T, W]:
        """One layer of this architecture."""
        return Qwen2Layer(self.config, weights, index)
