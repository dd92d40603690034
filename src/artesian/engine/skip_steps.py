"""Which sublayers the sequences of a step leave out."""

import numpy as np

from artesian.engine.approximation import SkipChoice
from artesian.engine.scheduler import Schedule
from artesian.engine.sequence import Sequence


class SkipSteps:
    """Watches the first tokens that a request generates, and has it leave out more from then on.

    Tokens up to `Sequence.extends_at` are computed with the set that the request began with, and
    those behind it with a larger one, which follows from the tokens between: whenever these are
    computed, one by one or, after a preemption, together. KV behind that place has no names.
    """

    def __init__(self, skips: SkipChoice | None) -> None:
        self._extend = None if skips is None else skips.extend
        self._num_sublayers = 0 if skips is None else skips.num_sublayers

    def plan(self, schedule: Schedule) -> None:
        """Sets what the sequences of a step leave out in it, and which rows are measured."""
        schedule.probe = None
        if self._extend is None:
            return
        for sequence in schedule.sequences:
            base = sequence.state.approximation.skip
            if base is None or sequence.extends_at is None:
                continue
            if sequence.online is None:
                sequence.online = self._extend(base)
            is_behind = sequence.num_computed >= sequence.extends_at
            sequence.skip = sequence.online.extended() if is_behind else base
        if any(self._watched(*pair) for pair in _pairs(schedule)):
            shape = (2, self._num_sublayers, sum(schedule.num_tokens))
            schedule.probe = np.empty(shape, np.float32)

    def observe(self, schedule: Schedule, sequence: Sequence) -> None:
        """Looks at what was measured of a sequence, before its tokens count as computed."""
        if schedule.probe is None or sequence.online is None:
            return
        index = schedule.sequences.index(sequence)
        watched = self._watched(sequence, schedule.num_tokens[index])
        if watched:
            row = sum(schedule.num_tokens[:index]) + watched.start - sequence.num_computed
            sequence.online.observe(schedule.probe[:, :, row : row + len(watched)])

    def _watched(self, sequence: Sequence, num_tokens: int) -> range:
        """Positions of this step's tokens that are still to be looked at."""
        if sequence.online is None or sequence.extends_at is None:
            return range(0)
        first = sequence.extends_at - sequence.online.num_left
        end = min(sequence.num_computed + num_tokens, sequence.extends_at)
        # What does not begin where the last look ended would be seen out of order.
        return range(first, end) if sequence.num_computed <= first < end else range(0)


def _pairs(schedule: Schedule) -> list[tuple[Sequence, int]]:
    return list(zip(schedule.sequences, schedule.num_tokens, strict=True))
