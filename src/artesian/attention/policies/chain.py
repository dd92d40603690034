"""Several policies, each over what the one before it has left."""

from collections.abc import Sequence

from artesian.attention.base import SparseAttention
from artesian.attention.policies.base import DenseFallback


class Chain:
    """A `DenseFallback` of several."""

    def __init__(self, policies: Sequence[DenseFallback]) -> None:
        self._policies = list(policies)

    def choose(self, asked: SparseAttention, num_before: int) -> SparseAttention | None:
        """See `DenseFallback`."""
        chosen: SparseAttention | None = asked
        for policy in self._policies:
            if chosen is not None:
                chosen = policy.choose(chosen, num_before)
        return chosen

    def observe(self, kept: Sequence[float]) -> None:
        """See `DenseFallback`."""
        for policy in self._policies:
            policy.observe(kept)
