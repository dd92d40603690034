"""Short contexts are attended whole."""

from collections.abc import Sequence

from artesian.attention.base import SparseAttention


class ByLength:
    """A `DenseFallback`: below `min_context_tokens` there is nothing to be gained."""

    def choose(self, asked: SparseAttention, num_before: int) -> SparseAttention | None:
        """See `DenseFallback`."""
        return None if num_before < asked.min_context_tokens else asked

    def observe(self, kept: Sequence[float]) -> None:
        """Nothing is to be learnt."""
