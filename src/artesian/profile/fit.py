"""Fits the terms of `StepCosts` to measured steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from artesian.profile.costs import StepCosts

F64 = npt.NDArray[np.float64]
KNEES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Rows at which the roofline may bend."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A step and its time; see `StepCosts`."""

    rows: int
    tokens: int
    prompt_rows: int
    pairs: float
    seconds: float


def predict(costs: StepCosts, step: Measured) -> float:
    """What `costs` says that the step takes."""
    rest_s = costs.rest_s(step.rows, step.prompt_rows)
    return rest_s + costs.attention_s(step.tokens, step.pairs)


def errors(costs: StepCosts, steps: Sequence[Measured]) -> list[float]:
    """Relative errors, one for each step."""
    return [abs(predict(costs, step) / step.seconds - 1) for step in steps]


def fit(steps: Sequence[Measured]) -> StepCosts:
    """The costs with the least squares of relative errors, no term below 0.

    Raises:
        ValueError: too few steps to tell the terms apart.
    """
    if len(steps) < 6:
        raise ValueError(f"6 steps at least are needed, not {len(steps)}")
    best: tuple[float, StepCosts] | None = None
    for knee in KNEES:
        for ratio in _prompt_ratios(steps):
            terms, residual = _least_squares(_features(steps, knee, ratio))
            fixed, row, token, pair = terms
            costs = StepCosts(
                fixed_s=fixed,
                knee_rows=knee,
                row_s=row,
                prompt_row_s=row * ratio,
                kv_token_s=token,
                pair_s=pair,
            )
            if row > 0 and token > 0 and (best is None or residual < 0.999 * best[0]):
                best = residual, costs
    if best is None:
        raise ValueError("the steps do not tell rows and attention apart: measure more contexts")
    return best[1]


def _prompt_ratios(steps: Sequence[Measured]) -> Sequence[float]:
    """Times of a prompt's row over a decode row that are tried."""
    return np.geomspace(0.05, 2.0, 40).tolist() if any(s.prompt_rows for s in steps) else [1.0]


def _features(steps: Sequence[Measured], knee: float, ratio: float) -> F64:
    """Of each step what the terms are multiplied with, over its time."""
    return np.array(
        [
            np.array([1.0, max(knee, s.rows + ratio * s.prompt_rows), s.tokens, s.pairs])
            / s.seconds
            for s in steps
        ]
    )


def _least_squares(features: F64) -> tuple[list[float], float]:
    """Terms >= 0 for which features @ terms is closest to 1, and the squared rest: the best of all
    choices of terms that are not 0. There are only four."""
    num = features.shape[1]
    best: tuple[list[float], float] = ([0.0] * num, float(len(features)))
    for size in range(1, num + 1):
        for chosen in combinations(range(num), size):
            part = features[:, chosen]
            found = np.linalg.lstsq(part, np.ones(len(part)), rcond=None)[0]
            if np.any(found < 0):
                continue
            rest = float(np.sum((part @ found - 1) ** 2))
            if rest < best[1]:
                terms = [0.0] * num
                for index, value in zip(chosen, found.tolist(), strict=True):
                    terms[index] = value
                best = terms, rest
    return best
