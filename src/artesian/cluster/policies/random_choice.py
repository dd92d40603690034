"""Routing by chance."""

import random
from collections.abc import Sequence

from artesian.cluster.policies.base import RequestView, Router, WorkerLoad
from artesian.cluster.policies.candidates import decoders


class RandomChoice(Router):
    """Any of them, by a seeded generator: a baseline."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def choose(self, request: RequestView, workers: Sequence[WorkerLoad]) -> str | None:
        """See `Router`."""
        candidates = decoders(workers)
        return self._random.choice(candidates).worker_id if candidates else None
