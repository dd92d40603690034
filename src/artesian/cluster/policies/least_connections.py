"""Routing by the number of sequences."""

from collections.abc import Sequence

from artesian.cluster.policies.base import RequestView, Router, WorkerLoad
from artesian.cluster.policies.candidates import decoders


class LeastConnections(Router):
    """The worker with the fewest sequences, running and waiting: a baseline."""

    def choose(self, request: RequestView, workers: Sequence[WorkerLoad]) -> str | None:
        """See `Router`."""
        candidates = decoders(workers)
        if not candidates:
            return None
        return min(candidates, key=lambda load: (load.num_sequences, load.worker_id)).worker_id
