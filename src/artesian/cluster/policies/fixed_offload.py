"""A fixed ratio of offloaded sequences."""

import math

from artesian.cluster.policies.base import DecodeBatch, OffloadAdmission, OffloadLimits


class FixedOffload(OffloadAdmission):
    """Offloads up to `ratio` sequences for each local one, whatever that does to the step: for
    measurements, and as a baseline. 0 offloads none, infinity all."""

    def __init__(self, ratio: float) -> None:
        if not ratio >= 0:
            raise ValueError(f"the ratio of offloaded to local sequences cannot be {ratio}")
        self._ratio = ratio

    def admits(
        self, num_tokens: int, max_tokens: int, batch: DecodeBatch, limits: OffloadLimits
    ) -> bool:
        """See `OffloadAdmission`; of a batch without local sequences the first one stays."""
        if math.isinf(self._ratio):
            return True
        return batch.offloaded_seqs + 1 <= self._ratio * batch.local_seqs

    def call_back(self, batch: DecodeBatch, limits: OffloadLimits) -> list[str]:
        """None: what was offloaded stays."""
        return []
