"""Which of the keys and values before it a token attends to."""

from artesian.attention.base import SparseAttention

__all__ = ["SparseAttention"]
