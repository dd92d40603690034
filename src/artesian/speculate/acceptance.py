"""How often drafted tokens are right."""

_MEMORY = 0.9
"""Of what is known, this part counts still when a round is over: ten rounds or so matter."""
_PRIOR_TOKENS = 2.0
_FIRST_GUESS = 0.8


class Acceptance:
    """The chance that a drafted token is right if all before it were.

    A round tells about its accepted tokens and the one that was refused; nothing about those
    behind, which nobody looks at. So the estimate is the share of accepted ones among these, older
    rounds counting less (ours).
    """

    def __init__(self, prior: "Acceptance | None" = None) -> None:
        """`prior` says what to believe before there are rounds."""
        self._prior = prior
        self._num_tested = 0.0
        self._num_right = 0.0

    @property
    def rate(self) -> float:
        """Between 0 and 1."""
        believed = _FIRST_GUESS if self._prior is None else self._prior.rate
        right = self._num_right + _PRIOR_TOKENS * believed
        return right / (self._num_tested + _PRIOR_TOKENS)

    def observe(self, num_drafted: int, num_accepted: int) -> None:
        """A round is over."""
        num_tested = min(num_accepted + 1, num_drafted)
        self._num_tested = _MEMORY * self._num_tested + num_tested
        self._num_right = _MEMORY * self._num_right + num_accepted
        if self._prior is not None:
            self._prior.observe(num_drafted, num_accepted)


def expected_tokens(rate: float, length: int) -> float:
    """Tokens that a round of `length` drafted ones brings on average: 1 + a + ... + a^length
    (Leviathan et al. 2023, equation 1)."""
    if rate >= 1:
        return length + 1.0
    return float((1 - rate ** (length + 1)) / (1 - rate))
