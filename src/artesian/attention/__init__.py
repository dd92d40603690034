"""Which of the keys and values before it a token attends to."""

from artesian.attention.base import Selector, SparseAttention
from artesian.attention.settings import configured_attention

__all__ = ["Selector", "SparseAttention", "configured_attention"]
