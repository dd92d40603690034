"""Qwen3 (dense): Llama with a norm on each head of Q and K."""

from artesian.models.llama import LlamaLayer, LlamaModel
from artesian.ops.base import F32, T, W, WeightSource


class Qwen3Layer(LlamaLayer[T, W]):
    """A Llama layer with head norms."""

    def load_head_norms(self, weights: WeightSource[W], layer: str) -> tuple[F32, F32]:
        """Norm weights of the heads of Q and K, each (head_dim,)."""
        return weights.vector(layer + "q_norm"), weights.vector(layer + "k_norm")


class Qwen3Model(LlamaModel[T, W]):
    """Qwen3."""

    def load_layer(self, weights: WeightSource[W], index: int) -> LlamaLayer[T, W]:
        """One layer of this architecture."""
        return Qwen3Layer(self.config, weights, index)
