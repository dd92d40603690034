"""Prompts are computed elsewhere only if that pays."""

from collections.abc import Sequence

from artesian.cluster.policies.base import Disaggregation, WorkerLoad


class ConditionalDisaggregation(Disaggregation):
    """Compares what both ways cost all sequences together (ours).

    Here, the request waits for the queue and the computation, and each sequence that decodes waits
    for the computation too. There, the request alone waits: for the peer's queue, its computation,
    and the hand-over.
    """

    def __init__(
        self, min_tokens: int = 64, handover_s: float = 0.005, handover_token_s: float = 0.0
    ) -> None:
        """
        Args:
            min_tokens: fewer are never worth a hand-over; while nothing is known of times, four
                times as many are.
            handover_s, handover_token_s: what a hand-over takes, and each of its tokens, beyond
                what overlaps with computing.
        """
        self._min_tokens = min_tokens
        self._handover_s = handover_s
        self._handover_token_s = handover_token_s

    def wants_peer(
        self, num_uncached: int, decode: WorkerLoad, peers: Sequence[WorkerLoad] = ()
    ) -> bool:
        """See `Disaggregation`."""
        if num_uncached < self._min_tokens:
            return False
        if not decode.token_s:
            return num_uncached >= 4 * self._min_tokens
        own_s = num_uncached * decode.token_s
        here_s = decode.queue_s + own_s * (1 + decode.num_running)
        there_s = min(
            (p.queue_s + num_uncached * (p.token_s or decode.token_s) for p in peers),
            default=own_s,
        )
        return there_s + self._handover_s + num_uncached * self._handover_token_s < here_s
