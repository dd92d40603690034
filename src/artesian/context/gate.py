"""Whether loading a prefix beats computing it again. A policy: no I/O, no clock."""

from artesian.context.cost import LoadCost, LoadPlan, PrefillCost, plan_load

_PROBE_EVERY = 16
"""After so many refusals one load goes ahead: a disk that was slow may not be slow any more."""


class LoadGate:
    """Compares what loads and prefills have taken so far.

    Nothing is known at first: then loading is allowed, so that something becomes known.
    """

    def __init__(self, prefill: PrefillCost | None = None) -> None:
        """`prefill`: what computing takes, if several tiers share that."""
        self.prefill = PrefillCost() if prefill is None else prefill
        self.load = LoadCost()
        self._num_refused = 0

    def observe_load(self, num_blocks: int, seconds: float) -> None:
        """So many blocks that were asked for together came in `seconds` after their turn."""
        self.load.observe(num_blocks, seconds)

    def observe_prefill(self, num_tokens: int, seconds: float, first: int = 0) -> None:
        """A step computed so many tokens of a prompt behind `first`, and little else."""
        self.prefill.observe(first, num_tokens, seconds)

    def prefill_s(self, num_tokens: int, first: int = 0) -> float:
        """How long computing so many tokens behind `first` takes; 0 while that is not known."""
        return self.prefill.seconds(first, num_tokens)

    def restore(self, prefill: PrefillCost, load: LoadCost | None) -> None:
        """Begins with costs that were learned earlier."""
        self.prefill = prefill
        self.load = LoadCost() if load is None else load

    def plan(self, num_blocks: int, block_size_tokens: int, first: int = 0) -> LoadPlan:
        """How many of the blocks behind token `first` to load, and how many to compute."""
        plan = plan_load(self.prefill, self.load, first, num_blocks, block_size_tokens)
        if plan.num_loaded:
            self._num_refused = 0
            return plan
        self._num_refused += 1
        if self._num_refused % _PROBE_EVERY or num_blocks == 1:
            return plan
        return LoadPlan(num_blocks - 1, 1, plan.seconds)  # nobody is held up by that

    def is_quicker(self, num_blocks: int, block_size_tokens: int, first: int = 0) -> bool:
        """Whether loading all of the blocks behind token `first` is known to be quicker than
        computing them, or not known to be slower."""
        if not self.prefill.is_known or not self.load.is_known:
            return True
        computing_s = self.prefill.seconds(first, num_blocks * block_size_tokens)
        return self.load.seconds(num_blocks) <= computing_s

    def should_load(self, num_blocks: int, block_size_tokens: int, first: int = 0) -> bool:
        """Whether to load all of the blocks behind token `first` rather than to compute them."""
        if self.is_quicker(num_blocks, block_size_tokens, first):
            self._num_refused = 0
            return True
        self._num_refused += 1
        return self._num_refused % _PROBE_EVERY == 0
