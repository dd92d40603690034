"""What the settings say about attention."""

from artesian.attention.base import SparseAttention
from artesian.config.engine import EngineConfig


def configured_attention(config: EngineConfig) -> SparseAttention:
    """How requests attend that ask for nothing."""
    return SparseAttention(
        selector=config.attention,
        epsilon=config.attention_epsilon,
        budget_tokens=config.attention_budget_tokens,
        dense_layers=config.attention_dense_layers,
        min_context_tokens=config.attention_min_context_tokens,
    )
