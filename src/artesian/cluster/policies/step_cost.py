"""How long a step of the engine takes, and how that is learnt from what workers report.

A step costs a fixed time (weights are read once), a time for each prompt token and one for each
sequence that decodes: t = step + prefill * p + decode * d. Attention makes tokens behind a long
context dearer, which this leaves out: it follows the load of the last minutes instead.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

# Each window of observations weighs so much less than the next one.
FORGETTING = 0.995
MIN_WINDOWS = 4
RIDGE = 1e-6


@dataclass(frozen=True)
class StepCost:
    """Seconds of a step, of each prompt token in it, of each sequence that decodes in it."""

    step_s: float
    prefill_s: float
    decode_s: float

    def tpot_s(self, num_decoding: float, prefill_tokens: float = 0.0) -> float:
        """One step, with so many sequences and prompt tokens."""
        return self.step_s + self.decode_s * num_decoding + self.prefill_s * prefill_tokens

    def prefill_time_s(self, num_tokens: float, num_decoding: float, budget: int) -> float:
        """From the first to the last step of prompts, in chunks of what `budget` leaves."""
        room = max(1.0, budget - num_decoding)
        num_steps = max(1.0, num_tokens / room)
        return num_tokens * self.prefill_s + num_steps * self.tpot_s(num_decoding)


class StepCostFit:
    """Least squares over windows of (steps, prompt tokens, decoded tokens) -> busy seconds.

    Old windows fade; no cost is below 0; windows that weigh the same in all their parts give a
    small answer rather than a wild one.
    """

    def __init__(self) -> None:
        self._gram = np.zeros((3, 3))
        self._moment = np.zeros(3)
        self._num_windows = 0

    def observe(
        self, num_steps: int, prefill_tokens: int, decode_tokens: int, busy_s: float
    ) -> None:
        """Takes in what one worker did between two reports; nonsense is ignored."""
        if num_steps <= 0 or busy_s <= 0 or prefill_tokens < 0 or decode_tokens < 0:
            return
        # Errors count relative to the window's length, so that short ones are heard too.
        row = np.array([num_steps, prefill_tokens, decode_tokens], float) / busy_s
        self._gram = FORGETTING * self._gram + np.outer(row, row)
        self._moment = FORGETTING * self._moment + row
        self._num_windows += 1

    def cost(self) -> StepCost | None:
        """The best fit; None while too little is known."""
        if self._num_windows < MIN_WINDOWS:
            return None
        scale = np.sqrt(np.diag(self._gram))
        best, best_gain = np.zeros(3), 0.0
        for size in (1, 2, 3):
            for chosen in combinations(range(3), size):
                columns = [column for column in chosen if scale[column] > 0]
                if len(columns) < size:
                    continue
                norms = scale[columns]
                gram = self._gram[np.ix_(columns, columns)] / np.outer(norms, norms)
                moment = self._moment[columns] / norms
                solution = np.linalg.solve(gram + RIDGE * np.eye(size), moment)
                gain = float(2 * solution @ moment - solution @ gram @ solution)
                if (solution >= 0).all() and gain > best_gain:
                    best, best_gain = np.zeros(3), gain
                    best[columns] = solution / norms
        return StepCost(*map(float, best))
