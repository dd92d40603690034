"""The Llama family: Llama 2 and 3, SmolLM2, Mistral (with its sliding window)."""

from typing import Generic

from artesian.models.base import ModelConfig
from artesian.models.rope import global_rope
from artesian.ops.base import F32, AttentionSpec, Ops, T, W, WeightSource


class LlamaLayer(Generic[T, W]):
    """Attention and gated MLP, each behind a norm and around a residual."""

    def __init__(self, config: ModelConfig, weights: WeightSource[W], index: int) -> None:
        layer = f"layers.{index}."
        self.config = config
        self.attn_norm = weights.vector(layer + "attn_norm")
        self.qkv = [weights.linear(layer + name) for name in ("q", "k", "v")]
        self.qkv_bias = self.load_qkv_bias(weights, layer)
        self.o = weights.linear(layer + "o")
        self.mlp_norm = weights.vector(layer + "mlp_norm")
        self.gate_up = [weights.linear(layer + name) for name in ("gate", "up")]
        self.down = weights.linear(layer + "down")
        q_norm, k_norm = self.load_head_norms(weights, layer)
        self.spec = AttentionSpec(
            layer=index,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            scale=config.attention_scale or config.head_dim**-0.5,
            rope=global_rope(config),
            window=config.layer_windows[index] if config.layer_windows else None,
            softcap=config.attention_softcap,
            q_norm=q_norm,
            k_norm=k_norm,
            norm_eps=config.norm_eps,
        )

    def load_qkv_bias(self, weights: WeightSource[W], layer: str) -> F32 | None:
        """Biases of Q, K and V one after the other; None here, Qwen2 has them."""
        return None

    def load_head_norms(
        self, weights: WeightSource[W], layer: str
    ) -> tuple[F32, F32] | tuple[None, None]:
        """Norm weights of the heads of Q and K; none here, Qwen3 has them."""
        return None, None

    def forward(self, ops: Ops[T, W], x: T) -> T:
        """One layer over (rows, hidden_size); the last one returns only the logits' rows."""
        eps = self.config.norm_eps
        hidden = ops.rms_norm(x, self.attn_norm, eps)
        hidden = ops.attention(ops.linear(hidden, self.qkv, bias=self.qkv_bias), self.spec)
        if self.spec.layer == self.config.num_layers - 1:
            hidden, x = ops.logit_rows(hidden), ops.logit_rows(x)
        x = ops.linear(hidden, [self.o], residual=x)
        hidden = ops.rms_norm(x, self.mlp_norm, eps)
        gate_up = ops.linear(hidden, self.gate_up)
        return ops.linear(ops.gated(gate_up, self.config.activation), [self.down], residual=x)


class LlamaModel(Generic[T, W]):
    """Embedding, layers, norm and vocabulary head."""

    def __init__(self, config: ModelConfig, weights: WeightSource[W]) -> None:
        self.config = config
        self.embed = weights.linear("embed")
        self.head = self.embed if config.tie_embeddings else weights.linear("head")
        self.norm = weights.vector("norm")
        self.layers = [self.load_layer(weights, index) for index in range(config.num_layers)]

    def load_layer(self, weights: WeightSource[W], index: int) -> LlamaLayer[T, W]:
        """One layer of this architecture."""
        return LlamaLayer(self.config, weights, index)

    def forward(self, ops: Ops[T, W]) -> T:
        """Logits (num_logits, vocab_size) of the batch that `ops` stands for."""
        x = ops.embed(self.embed)
        for layer in self.layers:
            x = layer.forward(ops, x)
        x = ops.rms_norm(x, self.norm, self.config.norm_eps)
        return ops.linear(x, [self.head])
