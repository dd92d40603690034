"""Leaving out more FFNs once a request's own tokens have been looked at (AdaSkip, section 4.3)."""

from artesian.skip.base import SkipSet
from artesian.skip.calibration import Calibration
from artesian.skip.similarity import F32, Similarity


class OnlineExtension:
    """Watches the first tokens that a request generates, then extends its set.

    The paper's rule: with beta the lowest similarity among the fixed set, all FFNs go whose
    similarity over these tokens is above beta. Their scale is that of these tokens, too. The FFNs
    of the first and of the last layer never go (ours).

    Args:
        calibration: of the model.
        skip: the fixed set, which the tokens are computed with.
        num_watched: tokens (the paper finds 20 enough).
    """

    def __init__(self, calibration: Calibration, skip: SkipSet, num_watched: int = 20) -> None:
        self._skip = skip
        # The last one is measured where logits are wanted alone, which may not be everywhere.
        self._protected = {1, len(calibration.similarities) - 1}
        self._num_left = num_watched
        self._extended: SkipSet | None = None
        self._similarity = Similarity(len(calibration.similarities))
        lowest = [calibration.similarities[number] for number in skip.sublayers]
        self._beta = min(lowest, default=1.0)

    @property
    def num_left(self) -> int:
        """Tokens that are still to be measured."""
        return self._num_left

    def observe(self, probe: F32) -> None:
        """Takes generated tokens: (2, num_sublayers, rows) as `Batch.probe` has them."""
        self._num_left -= probe.shape[2]
        self._similarity.add(probe)

    def extended(self) -> SkipSet:
        """The set for the tokens behind those observed; the fixed one while some are missing."""
        if self._num_left > 0:
            return self._skip
        if self._extended is None:
            self._extended = self._extend()
        return self._extended

    def _extend(self) -> SkipSet:
        scales = dict(zip(self._skip.sublayers, self._skip.scales, strict=True))
        found = self._similarity.measured()
        for number, (similarity, scale) in found.items():
            is_free = number % 2 == 1 and number not in self._protected and number not in scales
            if is_free and similarity > self._beta:
                scales[number] = scale
        numbers = tuple(sorted(scales))
        return SkipSet(numbers, tuple(scales[number] for number in numbers))
