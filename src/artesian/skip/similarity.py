"""Statistics of how little sublayers change their input (AdaSkip's equations 1 and 4)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


class Similarity:
    """Collects the measurements of prompts, each in one or several parts.

    Args:
        num_sublayers: of the model.
    """

    def __init__(self, num_sublayers: int) -> None:
        self._sums: F64 = np.zeros((2, num_sublayers))
        self._counts: F64 = np.zeros(num_sublayers)
        self._prompt: F64 = np.zeros(num_sublayers)
        self._prompt_counts: F64 = np.zeros(num_sublayers)
        self._means: list[F64] = []

    def add(self, probe: F32) -> None:
        """Takes a part of a prompt: (2, num_sublayers, rows) as `Batch.probe` has them."""
        is_there = np.isfinite(probe).all(axis=0)
        kept = np.where(is_there, probe, 0).sum(axis=2, dtype=np.float64)
        counts = is_there.sum(axis=1)
        self._sums += kept
        self._counts += counts
        self._prompt += kept[0]
        self._prompt_counts += counts

    def end_prompt(self) -> None:
        """What comes next belongs to another prompt."""
        self._means.append(self._prompt / np.maximum(self._prompt_counts, 1))
        self._prompt = np.zeros_like(self._prompt)
        self._prompt_counts = np.zeros_like(self._prompt_counts)

    @property
    def similarities(self) -> F64:
        """(num_sublayers,) mean cosine over all tokens."""
        return self._mean(0)

    @property
    def scales(self) -> F64:
        """(num_sublayers,) mean ratio of norms over all tokens."""
        return self._mean(1)

    @property
    def spreads(self) -> F64:
        """(num_sublayers,) standard deviation of the prompts' mean cosines."""
        spread: F64 = np.std(self._means, axis=0) if self._means else np.zeros_like(self._counts)
        return spread

    @property
    def prompts(self) -> Sequence[F64]:
        """(num_sublayers,) mean cosine of each prompt."""
        return self._means

    def measured(self) -> dict[int, tuple[float, float]]:
        """Similarity and scale of each sublayer of which anything was measured."""
        numbers = np.flatnonzero(self._counts)
        means = self._sums[:, numbers] / self._counts[numbers]
        pairs = zip(numbers.tolist(), *means.tolist(), strict=True)
        return {number: (similarity, scale) for number, similarity, scale in pairs}

    def _mean(self, kind: int) -> F64:
        if not self._counts.all():
            missing = np.flatnonzero(self._counts == 0).tolist()
            raise ValueError(f"nothing was measured of the sublayers {missing}")
        mean: F64 = self._sums[kind] / self._counts
        return mean


def hit_rate(first: F64, second: F64, count: int) -> float:
    """Part of the `count` most similar sublayers of one measurement that is also in the other's
    (the paper's hit rate)."""
    tops = [set(np.argsort(-values, kind="stable")[:count].tolist()) for values in (first, second)]
    return len(tops[0] & tops[1]) / count
