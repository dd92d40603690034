"""Prefill workers by load."""

from collections.abc import Sequence

from artesian.cluster.policies.base import PrefillDecodeMap, RequestView, WorkerLoad
from artesian.cluster.policies.candidates import prefillers
from artesian.cluster.policies.predict import prefill_s


class BalancedMap(PrefillDecodeMap):
    """The worker that is expected to have computed the prompt first; then the least queued.

    CloudMatrix-Infer (2506.12708) routes prompts to prefill instances of low load; by predicted
    time is ours.
    """

    def choose(
        self, request: RequestView, decode: WorkerLoad, workers: Sequence[WorkerLoad]
    ) -> str | None:
        """See `PrefillDecodeMap`."""
        candidates = prefillers(workers, but=decode.worker_id)
        if not candidates:
            return None

        def rank(load: WorkerLoad) -> tuple[float, int, int, str]:
            seconds = prefill_s(request, load)
            return seconds, load.queued_tokens, load.num_sequences, load.worker_id

        return min(candidates, key=rank).worker_id
