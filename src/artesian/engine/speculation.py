"""Rounds of drafts and verifications, for all sequences that speculate.

A drafted token is never more than a guess: it is counted, named, shown or saved when the full model
has computed it, in a step over all guesses and the token before them, whose rows give the same
numbers as steps of one row would. That step overwrites the KV that drafts have stored. What is
drafted is chosen like any token, with the same seed for its place, so that guesses of sampled
tokens are right about as often as those of the most likely ones.

Sequences draft and verify together, as steps have the weights in common: one that comes late drafts
less. While there are prompts to compute nobody drafts, since such steps are long.
"""

from collections.abc import Callable
from dataclasses import dataclass

from artesian.engine.drafts import Drafts
from artesian.engine.sequence import Sequence
from artesian.speculate import (
    Acceptance,
    Draft,
    LengthPolicy,
    Situation,
    StepKind,
    StepTime,
)

Lend = Callable[[Sequence, int], bool]
"""Whether a sequence has blocks for so many tokens now."""


@dataclass(slots=True)
class SpeculationStats:
    """Counters that only grow.

    Attributes:
        num_rounds: verifications; num_drafted, num_accepted: tokens of these.
    """

    num_rounds: int = 0
    num_drafted: int = 0
    num_accepted: int = 0


class Speculator:
    """Decides step by step who drafts and who verifies."""

    def __init__(self, draft: Draft, policy: LengthPolicy) -> None:
        self.draft = draft
        self.policy = policy
        self.stats = SpeculationStats()
        self._acceptance = Acceptance()
        self._num_left = 0
        self._step: tuple[StepKind, int, int, int] | None = None

    def new_acceptance(self) -> Acceptance:
        """For a sequence that begins: what others' drafts were worth is what is believed first."""
        return Acceptance(self._acceptance)

    def plan(
        self,
        sequences: list[Sequence],
        num_tokens: list[int],
        budget: int,
        lend: Lend,
        most_tokens: int,
        is_quiet: bool,
    ) -> None:
        """Changes `num_tokens` of a step in which each of `sequences` computes one token.

        `budget`: rows that the step may have; `most_tokens`: that a sequence may have at once;
        `is_quiet`: there are no prompts to compute.
        """
        able = [index for index, s in enumerate(sequences) if _is_able(s)]
        self._step = None
        if not able:
            self._num_left = 0
            return
        context = sum(s.num_computed for s in sequences) // len(sequences)
        if not is_quiet:
            self._num_left = 0
        elif not self._num_left and not any(_drafts(sequences[i]).num for i in able):
            rates = [_drafts(sequences[i]).acceptance.rate for i in able]
            chosen = self.policy.choose(Situation(context, rates, len(sequences) - len(able)))
            self._num_left = max(0, min(chosen, (budget - len(sequences)) // len(able)))
        kinds = {self._move(sequences[index], lend, most_tokens) for index in able}
        self._num_left = self._num_left - 1 if "draft" in kinds else 0
        num_more = budget - len(sequences)
        for index in able:
            drafts = _drafts(sequences[index])
            if drafts.is_drafting:
                continue
            drafts.num = min(drafts.num, num_more)
            num_tokens[index] = drafts.num + 1
            num_more -= drafts.num
        if is_quiet and len(kinds) == 1:
            self._step = kinds.pop(), len(sequences), sum(num_tokens), context

    def observe(self, seconds: float) -> None:
        """What the planned step took."""
        if self._step is not None and seconds > 0:
            self.policy.observe(StepTime(*self._step, seconds))

    def drafted(self, sequence: Sequence, token_id: int | None) -> None:
        """A draft step has chosen a token; None: it could not."""
        drafts = _drafts(sequence)
        if token_id is None:
            drafts.is_over = True
            return
        sequence.draft(token_id)
        drafts.is_over = token_id in sequence.stop_token_ids

    def take(self, sequence: Sequence) -> list[int]:
        """What the step that is over has verified, if anything; the sequence has no guesses any
        more."""
        drafts = sequence.drafts
        if drafts is None or not drafts.num:
            return []
        start = sequence.num_tokens
        guesses: list[int] = sequence.tokens[start : start + drafts.num].tolist()
        drafts.clear()
        return guesses

    def verified(self, sequence: Sequence, num_drafted: int, num_accepted: int) -> None:
        """A round is over; the sequence may have ended within it."""
        _drafts(sequence).acceptance.observe(num_drafted, num_accepted)
        self.stats.num_rounds += 1
        self.stats.num_drafted += num_drafted
        self.stats.num_accepted += num_accepted

    def _move(self, sequence: Sequence, lend: Lend, most_tokens: int) -> StepKind:
        """Whether it drafts one more token, or verifies; it has blocks for that then."""
        drafts = _drafts(sequence)
        drafts.is_drafting = False
        sequence.skip = None
        may_draft = self._num_left > 0 and drafts.num < _limit(sequence, most_tokens)
        if may_draft and not drafts.is_over and lend(sequence, sequence.num_tokens + drafts.num):
            drafts.is_drafting = True
            sequence.skip = drafts.how.skips
            return "draft"
        while drafts.num and not lend(sequence, sequence.num_tokens + drafts.num):
            drafts.num -= 1
        return "verify" if drafts.num else "plain"


def ahead(sequences: list[Sequence]) -> list[int] | None:
    """For each row of logits, how many drafted tokens stand before its next token; None: nobody
    speculates."""
    if not any(s.drafts is not None and s.drafts.is_open for s in sequences):
        return None
    result: list[int] = []
    for index, sequence in enumerate(sequences):
        drafts = sequence.drafts
        if drafts is not None and drafts.is_drafting:
            result.append(drafts.num)
        elif index and sequences[index - 1] is sequence:
            result.append(result[-1] + 1)
        else:
            result.append(0)
    return result


def _limit(sequence: Sequence, most_tokens: int) -> int:
    """Guesses that can be of use, and that there is room for: a round brings one token more."""
    num_left = sequence.max_tokens - sequence.num_stream_tokens
    return min(num_left - 1, most_tokens - sequence.num_tokens)


def _is_able(sequence: Sequence) -> bool:
    """Whether it may draft now: not before its first token, and not where its KV is not."""
    return sequence.drafts is not None and sequence.place is None and sequence.num_output_tokens > 0


def _drafts(sequence: Sequence) -> Drafts:
    assert sequence.drafts is not None
    return sequence.drafts
