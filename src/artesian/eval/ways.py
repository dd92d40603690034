"""The ways of going on from a context that are compared."""

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


DENSE = Way("dense")


def parse_way(text: str) -> Way:
    """The way that a text such as "progressive:0.95", "top-p:0.9" or "top-k:1024" names.

    Behind the colon is the part of the attention weight that is enough where it is at most 1, else
    a number of tokens.

    Raises:
        ValueError: there is no such selector, or the number is none.
    """
    name, _, number = text.partition(":")
    selector = _SELECTORS.get(name)
    if selector is None:
        raise ValueError(f"there is no way {name!r}: choose from {', '.join(_SELECTORS)}")
    if not number:
        return Way(text, SparseAttention(selector=selector))
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if 0 < value <= 1:
        return Way(text, SparseAttention(selector=selector, epsilon=value))
    if value < 1 or value != int(value):
        raise ValueError(f"{text!r}: behind the colon is a part in (0, 1], or a number of tokens")
    return Way(text, SparseAttention(selector=selector, budget_tokens=int(value)))


def label(selector: Selector, value: float) -> str:
    """The text that `parse_way` reads."""
    return f"{selector}:{value:g}" if value <= 1 else f"{selector}:{value:.0f}"
