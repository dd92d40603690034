"""Gemma 3 (text): norms around each sublayer and on heads, five local layers to one global."""

import math
from typing import Generic

from artesian.models.base import ModelConfig
from artesian.models.rope import global_rope, local_rope
from artesian.ops.base import AttentionSpec, Ops, T, W, WeightSource


class Gemma3Layer(Generic[T, W]):
    """Attention and gated MLP, each between two norms and around a residual."""

    def __init__(self, config: ModelConfig, weights: WeightSource[W], index: int) -> None:
        layer = f"layers.{index}."
        window = config.layer_windows[index] if config.layer_windows else None
        self.config = config
        self.attn_norm = weights.vector(layer + "attn_norm")
        self.qkv = [weights.linear(layer + name) for name in ("q", "k", "v")]
        self.o = weights.linear(layer + "o")
        self.post_attn_norm = weights.vector(layer + "post_attn_norm")
        self.mlp_norm = weights.vector(layer + "mlp_norm")
        self.gate_up = [weights.linear(layer + name) for name in ("gate", "up")]
        self.down = weights.linear(layer + "down")
        self.post_mlp_norm = weights.vector(layer + "post_mlp_norm")
        self.spec = AttentionSpec(
            layer=index,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            scale=config.attention_scale or config.head_dim**-0.5,
            rope=global_rope(config) if window is None else local_rope(config),
            window=window,
            softcap=config.attention_softcap,
            q_norm=weights.vector(layer + "q_norm"),
            k_norm=weights.vector(layer + "k_norm"),
            norm_eps=config.norm_eps,
        )

    def forward(self, ops: Ops[T, W], x: T) -> T:
        """One layer over (rows, hidden_size); the last one returns only the logits' rows."""
        eps = self.config.norm_eps
        hidden = ops.rms_norm(x, self.attn_norm, eps)
        hidden = ops.attention(ops.linear(hidden, self.qkv), self.spec)
        if self.spec.layer == self.config.num_layers - 1:
            hidden, x = ops.logit_rows(hidden), ops.logit_rows(x)
        x = ops.rms_norm(ops.linear(hidden, [self.o]), self.post_attn_norm, eps, residual=x)
        hidden = ops.linear(ops.rms_norm(x, self.mlp_norm, eps), self.gate_up)
        hidden = ops.linear(ops.gated(hidden, self.config.activation), [self.down])
        return ops.rms_norm(hidden, self.post_mlp_norm, eps, residual=x)


class Gemma3Model(Generic[T, W]):
    """Scaled embedding, layers, norm and vocabulary head."""

    def __init__(self, config: ModelConfig, weights: WeightSource[W]) -> None:
        self.config = config
        self.embed = weights.linear("embed")
        self.head = self.embed if config.tie_embeddings else weights.linear("head")
        self.norm = weights.vector("norm")
        self.layers: list[Gemma3Layer[T, W]] = [
            Gemma3Layer(config, weights, index) for index in range(config.num_layers)
        ]

    def forward(self, ops: Ops[T, W]) -> T:
        """Logits (num_logits, vocab_size) of the batch that `ops` stands for."""
        x = ops.embed(self.embed, math.sqrt(self.config.hidden_size))
        for layer in self.layers:
            x = layer.forward(ops, x)
        x = ops.rms_norm(x, self.norm, self.config.norm_eps)
        logits = ops.linear(x, [self.head])
        cap = self.config.logit_softcap
        return logits if cap is None else ops.softcap(logits, cap)
