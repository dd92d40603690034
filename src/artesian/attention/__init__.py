"""Which of the keys and values before it a token attends to."""

from artesian.attention.base import Selector, SparseAttention
from artesian.attention.report import SparseReport
from artesian.attention.settings import configured_attention

__all__ = ["Selector", "SparseAttention", "SparseReport", "configured_attention"]
