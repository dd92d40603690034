"""AdaSkip's choice: what changes its input least, attention and FFNs in one list."""

from artesian.skip.base import SkipSet
from artesian.skip.calibration import Calibration
from artesian.skip.policies.base import FIRST_LAYER, check_count, scaled


class MostSimilar:
    """The sublayers of highest similarity (after the paper, section 4.2).

    Args:
        protected: never left out (ours: the paper protects none, but its models' first layer is
            never among the most similar).
        has_scales: the output is taken to be as long as it is on average; else as its input.
    """

    def __init__(self, protected: frozenset[int] = FIRST_LAYER, *, has_scales: bool = True) -> None:
        self._protected = protected
        self._has_scales = has_scales

    def order(self, calibration: Calibration) -> list[int]:
        """All sublayers that may be left out, those first that go first."""
        similarities = calibration.similarities
        numbers = (n for n in range(len(similarities)) if n not in self._protected)
        return sorted(numbers, key=lambda number: (-similarities[number], number))

    def choose(self, calibration: Calibration, count: int) -> SkipSet:
        """See `Selection.choose`."""
        order = self.order(calibration)
        check_count(count, len(order))
        found = scaled(calibration, order[:count])
        return found if self._has_scales else SkipSet(found.sublayers, (1.0,) * count)
