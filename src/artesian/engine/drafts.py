"""Tokens that one sequence has guessed."""

from dataclasses import dataclass, field

from artesian.attention import SparseAttention
from artesian.speculate import Acceptance, Draft


@dataclass(slots=True)
class Drafts:
    """Of a sequence that may speculate. The tokens stand in its `tokens`, behind those that it has.

    Attributes:
        how: they are made.
        num: of this round so far.
        is_drafting: the next step of the sequence adds one; otherwise it verifies them all.
        is_over: no more are added in this round.
    """

    how: Draft
    acceptance: Acceptance = field(default_factory=Acceptance)
    num: int = 0
    is_drafting: bool = False
    is_over: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the sequence's next step is part of a round."""
        return self.is_drafting or self.num > 0

    def attention_at(self, position: int) -> SparseAttention | None:
        """How a guess at this position attends; None: to everything."""
        attention = self.how.attention
        if attention is None or position < attention.min_context_tokens:
            return None
        return attention

    def clear(self) -> None:
        """The round is over, or was given up."""
        self.num = 0
        self.is_drafting = self.is_over = False
