"""Which of an engine's prompts its peers compute, and which sequences stay with them: the policies
of the cluster as an engine asks them."""

from artesian.cluster.policies import (
    ConditionalDisaggregation,
    DecodeBatch,
    Disaggregation,
    OffloadAdmission,
    OffloadedSequence,
    OffloadLimits,
    WorkerLoad,
)
from artesian.context.cost import PrefillCost
from artesian.engine.landings import DecodeLoad

_LEAST_PATIENCE_S = 60.0
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


class AdmittedOffload:
    """An `OffloadRule` of an `OffloadAdmission`, within limits that do not change."""

    def __init__(self, policy: OffloadAdmission, limits: OffloadLimits) -> None:
        self._policy = policy
        self._limits = limits

    def is_remote(self, num_tokens: int, max_tokens: int, load: DecodeLoad) -> bool:
        """See `OffloadRule`."""
        return self._policy.admits(num_tokens, max_tokens, _batch_of(load), self._limits)

    def call_back(self, load: DecodeLoad) -> list[int]:
        """See `OffloadRule`."""
        return list(map(int, self._policy.call_back(_batch_of(load), self._limits)))


def _batch_of(load: DecodeLoad) -> DecodeBatch:
    """Remote sequences have their numbers for ids."""
    return DecodeBatch(
        local_seqs=load.local_seqs,
        local_tokens=load.local_tokens,
        offloaded=[
            OffloadedSequence(request_id=str(number), num_tokens=now, max_tokens=most)
            for number, (now, most) in enumerate(load.remote)
        ],
    )
