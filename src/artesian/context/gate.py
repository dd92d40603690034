"""Whether loading a prefix beats computing it again. A policy: no I/O, no clock."""

_WEIGHT = 0.2
"""Of the newest observation in a running mean."""
_PROBE_EVERY = 16
"""After so many refusals one load goes ahead: a disk that was slow may not be slow any more."""


class LoadGate:
    """Compares what loads and prefills have taken so far.

    Nothing is known at first: then loading is allowed, so that something becomes known.
    """

    def __init__(self) -> None:
        self.load_s_per_block: float | None = None
        self.prefill_s_per_token: float | None = None
        self._num_refused = 0

    def observe_load(self, num_blocks: int, seconds: float) -> None:
        """So many blocks came in `seconds`, from the first request to the last arrival."""
        self.load_s_per_block = _mean(self.load_s_per_block, seconds / num_blocks)

    def observe_prefill(self, num_tokens: int, seconds: float) -> None:
        """A step computed so many prompt tokens, and little else."""
        self.prefill_s_per_token = _mean(self.prefill_s_per_token, seconds / num_tokens)

    def prefill_s(self, num_tokens: int) -> float:
        """How long computing so many tokens takes; 0 while that is not known."""
        return (self.prefill_s_per_token or 0.0) * num_tokens

    def should_load(self, num_blocks: int, block_size_tokens: int) -> bool:
        """Whether to load `num_blocks` rather than to compute their tokens."""
        if self.load_s_per_block is None or self.prefill_s_per_token is None:
            return True
        if self.load_s_per_block <= self.prefill_s(block_size_tokens):
            self._num_refused = 0
            return True
        self._num_refused += 1
        return self._num_refused % _PROBE_EVERY == 0


def _mean(mean: float | None, value: float) -> float:
    return value if mean is None else mean + _WEIGHT * (value - mean)
