"""Leaving out more FFNs once a request's own tokens have been looked at (AdaSkip, section 4.3)."""

from artesian.skip.base import SkipSet
from artesian.skip.calibration import Calibration
from artesian.skip.policies.base import FIRST_LAYER
from artesian.skip.similarity import F32, Similarity


class OnlineExtension:
    """Watches the first tokens that a request generates, then extends its set.

    The paper's rule: with beta the lowest similarity among the fixed set, all FFNs go whose
    similarity over these tokens is above beta. Their scale is that of these tokens, too.

    Args:
        calibration: of the model.
        skip: the fixed set, which the tokens are computed with.
        num_watched: tokens (the paper finds 20 enough).
        protected: never left out.
    """

    def __init__(
        self,
        calibration: Calibration,
        skip: SkipSet,
        num_watched: int = 20,
        protected: frozenset[int] = FIRST_LAYER,
    ) -> None:
        self._skip = skip
        self._protected = protected
        self._num_left = num_watched
        self._similarity = Similarity(len(calibration.similarities))
        lowest = [calibration.similarities[number] for number in skip.sublayers]
        self._beta = min(lowest, default=1.0)

    @property
    def wants_more(self) -> bool:
        """Whether further tokens are to be measured."""
        return self._num_left > 0

    def observe(self, probe: F32) -> None:
        """Takes generated tokens: (2, num_sublayers, rows) as `Batch.probe` has them."""
        self._num_left -= probe.shape[2]
        self._similarity.add(probe)

    def extended(self) -> SkipSet:
        """The set for the tokens behind those observed."""
        scales = dict(zip(self._skip.sublayers, self._skip.scales, strict=True))
        found = self._similarity.measured()
        for number, (similarity, scale) in found.items():
            is_free = number % 2 == 1 and number not in self._protected and number not in scales
            if is_free and similarity > self._beta:
                scales[number] = scale
        numbers = tuple(sorted(scales))
        return SkipSet(numbers, tuple(scales[number] for number in numbers))
