"""Whether sparse attention keeps what it should, by audits of some steps."""

from collections.abc import Sequence

_WEIGHT = 0.05
"""Of the latest audit in the moving averages."""
_LEAST_SEEN = 16
"""Audits before anything is said, and between two reports."""


class DriftWatch:
    """A policy, without I/O or clock: compares the attention weight that was asked for, or
    estimated, with the one that was really kept.

    Args:
        tolerance: how far the kept weight may be below what was asked for, on average.
    """

    def __init__(self, tolerance: float = 0.02) -> None:
        self._tolerance = tolerance
        self._kept: list[float] = []
        self._gap = 0.0
        self._num_seen = 0
        self._report_at = _LEAST_SEEN

    def observe(self, asked: float, kept: Sequence[float]) -> str | None:
        """Takes an audit: `kept` is the true weight of each layer, where at least `asked` was
        wanted. Returns what to tell people when it is too low, now and then."""
        if len(kept) != len(self._kept):
            self._kept, self._num_seen, self._report_at = list(kept), 0, _LEAST_SEEN
            self._gap = 0.0
        for layer, weight in enumerate(kept):
            self._kept[layer] += _WEIGHT * (weight - self._kept[layer])
        gap = asked - sum(kept) / len(kept)
        self._gap += (_WEIGHT if self._num_seen else 1.0) * (gap - self._gap)
        self._num_seen += 1
        if self._num_seen < self._report_at or self._gap <= self._tolerance:
            return None
        self._report_at = self._num_seen + _LEAST_SEEN
        worst = min(range(len(self._kept)), key=lambda layer: self._kept[layer])
        return (
            f"sparse attention keeps {self._gap:.1%} less of the attention weight than was asked "
            f"for, on average over {self._num_seen} audits; least in layer {worst}: "
            f"{self._kept[worst]:.1%}. A higher attention_epsilon or more attention_dense_layers "
            "would keep more"
        )
