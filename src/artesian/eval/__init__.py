"""Measures what a way of computing costs in quality."""

from artesian.eval.paths import PathResult, compare_paths
from artesian.eval.perplexity import Perplexity, PerplexityDifference, difference, perplexity

__all__ = [
    "PathResult",
    "Perplexity",
    "PerplexityDifference",
    "compare_paths",
    "difference",
    "perplexity",
]
