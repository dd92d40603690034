"""What drafts are, and what a policy is asked about their length.

A *round* is `length` draft steps of one row for each sequence, then one step of the full model over
all drafted tokens and the one before them. A round brings at least one token: the full model's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from artesian.attention import SparseAttention
from artesian.skip import SkipSet

StepKind = Literal["plain", "draft", "verify"]


@dataclass(frozen=True, slots=True)
class Draft:
    """How the same model guesses: seeing less of its context, or with sublayers left out.

    Attributes:
        attention: None attends to everything.
        skips: None leaves nothing out. With neither, guesses are always right, and never cheaper.
    """

    attention: SparseAttention | None = None
    skips: SkipSet | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """The sequences that a round would be for.

    Attributes:
        context_tokens: mean number of tokens before the next one.
        acceptances: of each sequence that speculates, the chance that a drafted token is right.
        num_others: sequences in the same steps that do not speculate.
    """

    context_tokens: int
    acceptances: Sequence[float]
    num_others: int = 0

    @property
    def num_sequences(self) -> int:
        """All of a step."""
        return len(self.acceptances) + self.num_others


@dataclass(frozen=True, slots=True)
class StepTime:
    """A step that did nothing but what `kind` says.

    Attributes:
        num_rows: of all sequences together.
        seconds: that the whole step took.
    """

    kind: StepKind
    num_sequences: int
    num_rows: int
    context_tokens: int
    seconds: float


class LengthPolicy(Protocol):
    """How many tokens are drafted before the full model looks at them."""

    def choose(self, situation: Situation) -> int:
        """Draft steps of the next round; 0: a plain step of the full model instead."""

    def observe(self, step: StepTime) -> None:
        """Takes notice of what a step took."""
