"""The ways of going on from a context that are compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from artesian.attention import SparseAttention
from artesian.attention.base import Selector
from artesian.skip import SkipSet

_EVERYTHING = SparseAttention()
_NOTHING = SkipSet()
_SELECTORS: dict[str, Selector] = {name: name for name in get_args(Selector)}


@dataclass(frozen=True, slots=True)
class Way:
    """How tokens attend, and which sublayers are left out (also while the context is read)."""

    name: str
    attention: SparseAttention = _EVERYTHING
    skip: SkipSet = _NOTHING

    @property
    def is_exact(self) -> bool:
        """Whether it is what the others are compared with."""
        return self.attention.is_exact and not self.skip.sublayers

    @property
    def looks(self) -> bool:
        """Whether it looks at the summaries of keys."""
        return self.attention.selector not in ("dense", "window")


DENSE = Way("dense")


def parse_way(text: str, choose: Callable[[int], SkipSet] | None = None) -> Way:
    """The way that a text such as "progressive:0.95", "top-k:1024" or "dense+skip:8" names.

    Behind the colon is the part of the attention weight that is enough where it is at most 1, else
    a number of tokens; behind "+skip:" how many sublayers are left out.

    Args:
        choose: gives so many sublayers to leave out.

    Raises:
        ValueError: there is no such selector, a number is none, or nobody knows what to leave out.
    """
    attending, _, skipped = text.partition("+skip:")
    attention = _parse_attention(attending)
    if not skipped:
        return Way(text, attention)
    if choose is None:
        raise ValueError(f"{text!r} leaves out sublayers: name a calibration of the model")
    if not skipped.isdecimal():
        raise ValueError(f"{text!r}: behind skip is a number of sublayers")
    return Way(text, attention, choose(int(skipped)))


def _parse_attention(text: str) -> SparseAttention:
    name, _, number = text.partition(":")
    selector = _SELECTORS.get(name)
    if selector is None:
        raise ValueError(f"there is no way {name!r}: choose from {', '.join(_SELECTORS)}")
    if not number and selector not in ("top-k", "window"):
        return SparseAttention(selector=selector)
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if 0 < value <= 1:
        return SparseAttention(selector=selector, epsilon=value)
    if value < 1 or value != int(value):
        raise ValueError(f"{text!r}: behind the colon is a part in (0, 1], or a number of tokens")
    return SparseAttention(selector=selector, budget_tokens=int(value))


def label(selector: Selector, value: float) -> str:
    """The text that `parse_way` reads."""
    return f"{selector}:{value:g}" if value <= 1 else f"{selector}:{value:.0f}"
