"""Where sparse attention is going to save too little, everything is attended."""

from collections.abc import Sequence

from artesian.attention.base import SparseAttention

_WEIGHT = 0.1
"""Of the latest token in the moving average."""
_LEAST_SEEN = 16
"""Tokens before anything is concluded."""


class BySaving:
    """A `DenseFallback` that pauses when less than `least_saving` of the reads is saved.

    Args:
        least_saving: part of the KV that need not be read, net of the search for the rest.
        search: what the search reads, as part of the KV: two vectors of a group of 32 tokens, of 64
            that the group has.
        pause: tokens that attend to everything before it is tried again.
    """

    def __init__(self, least_saving: float = 0.1, search: float = 1 / 32, pause: int = 256) -> None:
        self._least_saving = least_saving
        self._search = search
        self._pause = pause
        self._kept = 0.0
        self._num_seen = 0
        self._resume_at = 0

    def choose(self, asked: SparseAttention, num_before: int) -> SparseAttention | None:
        """See `DenseFallback`."""
        if self._num_seen >= _LEAST_SEEN and 1 - self._kept - self._search < self._least_saving:
            self._num_seen = 0
            self._resume_at = num_before + self._pause
        return None if num_before < self._resume_at else asked

    def observe(self, kept: Sequence[float]) -> None:
        """See `DenseFallback`."""
        mean = sum(kept) / len(kept)
        self._kept = self._kept + _WEIGHT * (mean - self._kept) if self._num_seen else mean
        self._num_seen += 1
