"""As many tokens as pay, by what has been measured; none where drafting does not pay.

Ours: the length with the most expected tokens a second. A round of k drafts takes k draft steps and
a verification, whose time is that of a plain step and so much more for each further row. All three
are measured where they happen, by size of batch and context, because drafts that see a window pay
only where reading the rest takes long. What has not been measured yet is tried; what has not been
measured for long is tried again, since contexts grow and machines get busy.
"""

from dataclasses import dataclass

from artesian.speculate.acceptance import expected_tokens
from artesian.speculate.base import Situation, StepTime

_WEIGHT = 0.2
"""Of a new time in a mean."""
_FIRST_TIMES = 3
"""Plain steps before the first draft, and drafts before anything is concluded."""
_TRIAL_LENGTH = 2
_LEAST_GAIN = 1.03
"""Rounds must promise to be so much quicker than plain steps."""
_TRIAL_EVERY = 64
"""Plain steps between trials of drafts that did not pay; twice as many after each trial."""
_MOST_DOUBLINGS = 5
_PLAIN_EVERY = 64
"""Rounds between plain steps, to know what these take now."""


@dataclass(slots=True)
class _Mean:
    """A time that moves with what is measured."""

    seconds: float = 0.0
    count: int = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        weight = max(_WEIGHT, 1 / self.count)
        self.seconds += weight * (seconds - self.seconds)


@dataclass(slots=True)
class _Costs:
    """What steps take for batches and contexts of about one size.

    Attributes:
        row: what each row behind a sequence's first adds to a verification.
        num_since: rounds since the last plain step, or plain steps since the last round.
    """

    plain: _Mean
    draft: _Mean
    row: _Mean
    num_since: int = 0
    num_failures: int = 0

    @property
    def is_known(self) -> bool:
        return self.draft.count >= _FIRST_TIMES and self.row.count > 0

    def seconds(self, length: int, num_sequences: int) -> float:
        """Expected time of a round."""
        verify = self.plain.seconds + self.row.seconds * length * num_sequences
        return length * self.draft.seconds + verify if length else self.plain.seconds


class AdaptiveLength:
    """Chooses lengths up to `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._costs: dict[tuple[int, int], _Costs] = {}

    def choose(self, situation: Situation) -> int:
        """See `LengthPolicy`."""
        costs = self._of(situation.num_sequences, situation.context_tokens)
        costs.num_since += 1
        if costs.plain.count < _FIRST_TIMES:
            return self._plain(costs)
        if not costs.is_known:
            return min(_TRIAL_LENGTH, self._most)
        length = max(range(self._most + 1), key=lambda k: self.gain(situation, k))
        if self.gain(situation, length) < _LEAST_GAIN:
            return self._unless_due(costs)
        costs.num_failures = 0
        if costs.num_since > _PLAIN_EVERY:
            return self._plain(costs)
        return length

    def gain(self, situation: Situation, length: int) -> float:
        """Expected tokens a second of rounds of this length, plain steps being 1."""
        costs = self._of(situation.num_sequences, situation.context_tokens)
        seconds = costs.seconds(length, len(situation.acceptances))
        if seconds <= 0:
            return 1.0
        tokens = sum(expected_tokens(rate, length) for rate in situation.acceptances)
        tokens += situation.num_others * (length + 1)
        return tokens / situation.num_sequences * costs.plain.seconds / seconds

    def observe(self, step: StepTime) -> None:
        """See `LengthPolicy`."""
        costs = self._of(step.num_sequences, step.context_tokens)
        if step.kind == "plain":
            costs.plain.add(step.seconds)
        elif step.kind == "draft":
            costs.draft.add(step.seconds)
        elif step.num_rows > step.num_sequences:
            more = step.seconds - costs.plain.seconds
            costs.row.add(max(more, 0.0) / (step.num_rows - step.num_sequences))

    def _unless_due(self, costs: _Costs) -> int:
        """No drafts, or once in a while a trial."""
        if costs.num_since <= _TRIAL_EVERY << min(costs.num_failures, _MOST_DOUBLINGS):
            return 0
        costs.num_since = 0
        costs.num_failures += 1
        return min(_TRIAL_LENGTH, self._most)

    def _plain(self, costs: _Costs) -> int:
        costs.num_since = 0
        return 0

    def _of(self, num_sequences: int, context_tokens: int) -> _Costs:
        key = num_sequences.bit_length(), context_tokens.bit_length()
        if key not in self._costs:
            self._costs[key] = _Costs(_Mean(), _Mean(), _Mean())
        return self._costs[key]
