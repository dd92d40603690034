"""First layers that would read nearly everything are attended whole.

The first layers of a model spread their attention (on SmolLM2 the first three): there the search
for what matters costs more than it saves.
"""

from collections.abc import Sequence

import msgspec

from artesian.attention.base import SparseAttention

_WEIGHT = 0.1
"""Of the latest token in the moving average."""
_LEAST_SEEN = 16
"""Tokens before anything is concluded."""


class ByLayer:
    """A `DenseFallback` for leading layers whose kept part, on average, exceeds `most_kept`.

    What is attended whole is not measured any more: every `renewal` tokens all is looked at again.
    """

    def __init__(self, most_kept: float = 0.85, renewal: int = 512) -> None:
        self._most_kept = most_kept
        self._renewal = renewal
        self._kept: list[float] = []
        self._num_seen = 0
        self._num_dense = 0

    def choose(self, asked: SparseAttention, num_before: int) -> SparseAttention | None:
        """See `DenseFallback`."""
        if self._num_dense <= asked.dense_layers:
            return asked
        if self._num_dense >= len(self._kept):
            return None
        return msgspec.structs.replace(asked, dense_layers=self._num_dense)

    def observe(self, kept: Sequence[float]) -> None:
        """See `DenseFallback`."""
        if not self._kept:
            self._kept = list(kept)
        for layer in range(self._num_dense, len(self._kept)):
            self._kept[layer] += _WEIGHT * (kept[layer] - self._kept[layer])
        self._num_seen += 1
        if self._num_seen % self._renewal == 0:
            self._kept, self._num_dense, self._num_seen = [], 0, 0
        elif self._num_seen >= _LEAST_SEEN:
            while self._num_dense < len(self._kept):
                if self._kept[self._num_dense] < self._most_kept:
                    break
                self._num_dense += 1
