"""Always the same length."""

from artesian.speculate.base import Situation, StepTime


class FixedLength:
    """Drafts of `length` tokens, whether they pay or not: for comparisons."""

    def __init__(self, length: int) -> None:
        self.length = length

    def choose(self, situation: Situation) -> int:
        """See `LengthPolicy`."""
        return self.length

    def observe(self, step: StepTime) -> None:
        """See `LengthPolicy`."""
