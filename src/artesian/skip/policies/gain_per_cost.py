"""What saves most time for what it changes (ours)."""

from artesian.skip.base import SkipSet
from artesian.skip.calibration import Calibration, StepCosts
from artesian.skip.costs import sublayer_costs
from artesian.skip.policies.base import FIRST_LAYER, check_count, scaled

_LEAST_CHANGE = 1e-6


class GainPerCost:
    """Sublayers in order of time saved over 1 - similarity.

    Args:
        costs: of a row.
        context_tokens: behind which it stands.
        protected: never left out.
    """

    def __init__(
        self, costs: StepCosts, context_tokens: int, protected: frozenset[int] = FIRST_LAYER
    ) -> None:
        self._costs = costs
        self._context_tokens = context_tokens
        self._protected = protected

    def choose(self, calibration: Calibration, count: int) -> SkipSet:
        """See `Selection.choose`."""
        saved = sublayer_costs(self._costs, calibration.windows, self._context_tokens)
        change = [max(1 - s, _LEAST_CHANGE) for s in calibration.similarities]
        numbers = (n for n in range(len(change)) if n not in self._protected)
        order = sorted(numbers, key=lambda number: (-saved[number] / change[number], number))
        check_count(count, len(order))
        return scaled(calibration, order[:count])
