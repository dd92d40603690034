"""Routing in turn."""

from collections.abc import Sequence

from artesian.cluster.policies.base import RequestView, Router, WorkerLoad
from artesian.cluster.policies.candidates import decoders


class RoundRobin(Router):
    """One after the other, in the order of their ids: a baseline."""

    def __init__(self) -> None:
        self._last = ""

    def choose(self, request: RequestView, workers: Sequence[WorkerLoad]) -> str | None:
        """See `Router`."""
        ids = sorted(load.worker_id for load in decoders(workers))
        if not ids:
            return None
        self._last = next((name for name in ids if name > self._last), ids[0])
        return self._last
