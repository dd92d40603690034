"""Routing by the least predicted time."""

from collections.abc import Sequence

from artesian.cluster.policies.base import RequestView, Router, WorkerLoad
from artesian.cluster.policies.candidates import affinity, decoders
from artesian.cluster.policies.predict import answer_s


class LeastPredictedTime(Router):
    """The worker that is expected to finish the request first.

    Predictions are not exact: those within `tie` of the best count as equal. Among equals more
    cached tokens win, then the fewest sequences, then whom the session prefers.
    """

    def __init__(self, tie: float = 0.1) -> None:
        self._tie = tie

    def choose(self, request: RequestView, workers: Sequence[WorkerLoad]) -> str | None:
        """See `Router`."""
        times = {load.worker_id: answer_s(request, load) for load in workers}
        candidates = decoders(workers)
        if not candidates:
            return None
        limit_s = (1 + self._tie) * min(times[load.worker_id] for load in candidates)

        def rank(load: WorkerLoad) -> tuple[int, int, bytes]:
            cached = request.cached_tokens.get(load.worker_id, 0)
            # A session returns to where it was unless that is busier by more than a sequence.
            crowd = load.num_sequences // 2 if request.key else load.num_sequences
            return cached, -crowd, affinity(request.key, load.worker_id)

        equals = [load for load in candidates if times[load.worker_id] <= limit_s]
        return max(equals, key=rank).worker_id
