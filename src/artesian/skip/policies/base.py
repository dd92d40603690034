"""How the sublayers are chosen that are left out."""

from collections.abc import Iterable
from typing import Protocol

from artesian.skip.base import SkipSet
from artesian.skip.calibration import Calibration

FIRST_LAYER = frozenset({0, 1})
"""Its sublayers make of tokens what all others work on: they change their input most, and nothing
makes up for them."""


class Selection(Protocol):
    """A way of choosing."""

    def choose(self, calibration: Calibration, count: int) -> SkipSet:
        """At most `count` sublayers to leave out; whole layers count as two.

        Raises `ValueError` for more than there are to choose from.
        """


def num_skipped_of(num_layers: int, alpha: float) -> int:
    """Sublayers to leave out for the paper's speed-up `alpha`: twice m = M - M / alpha.

    Raises `ValueError` below 1.
    """
    if not alpha >= 1:
        raise ValueError(f"alpha is {alpha}: it is a speed-up, at least 1")
    return round(2 * (num_layers - num_layers / alpha))


def alpha_of(num_layers: int, num_skipped: int) -> float:
    """The speed-up that leaving out so many sublayers would have if all cost the same."""
    return 2 * num_layers / (2 * num_layers - num_skipped)


def scaled(calibration: Calibration, sublayers: Iterable[int]) -> SkipSet:
    """These sublayers, with the calibration's scales."""
    numbers = tuple(sorted(sublayers))
    return SkipSet(numbers, tuple(float(calibration.scales[number]) for number in numbers))


def whole_layers(layers: Iterable[int]) -> SkipSet:
    """Layers that are left out as if they were not there."""
    numbers = tuple(sorted(2 * layer + part for layer in layers for part in (0, 1)))
    return SkipSet(numbers, (1.0,) * len(numbers))


def check_count(count: int, most: int) -> None:
    """Raises `ValueError` unless `count` can be had."""
    if not 0 <= count <= most:
        raise ValueError(f"{count} sublayers cannot be left out, but 0 to {most}")
