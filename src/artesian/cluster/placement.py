"""Which of an engine's prompts its peers compute, by what computing has taken so far."""

from artesian.cluster.policies import ConditionalDisaggregation, Disaggregation, WorkerLoad
from artesian.context.cost import PrefillCost

_LEAST_PATIENCE_S = 20.0
_QUEUES = 8.0
"""A peer may take so many times what computing takes: it has a queue, and others to serve."""


class ConditionalPlacement:
    """A `PrefillPlacement` of a `Disaggregation`. It learns from what peers have taken."""

    def __init__(self, policy: Disaggregation | None = None) -> None:
        self._policy = policy or ConditionalDisaggregation()
        self._prefill = PrefillCost()

    def observe(self, first: int, num_tokens: int, seconds: float) -> None:
        """Computing `num_tokens` tokens behind `first` took so long."""
        self._prefill.observe(first, num_tokens, seconds)

    def is_away(self, num_cached: int, num_new: int, num_running: int) -> bool:
        """See `PrefillPlacement`."""
        token_s = self._prefill.seconds(num_cached, num_new) / num_new
        here = WorkerLoad(worker_id="", num_running=num_running, token_s=token_s)
        return self._policy.wants_peer(num_new, here)

    def patience_s(self, num_cached: int, num_new: int) -> float:
        """See `PrefillPlacement`."""
        return _LEAST_PATIENCE_S + _QUEUES * self._prefill.seconds(num_cached, num_new)
