"""Prefill workers by a fixed formula."""

from collections.abc import Sequence

from artesian.cluster.policies.base import PrefillDecodeMap, RequestView, WorkerLoad
from artesian.cluster.policies.candidates import prefillers


def prefill_rank(
    decode_dp_rank: int, decode_tp_rank: int, *, prefill_tp: int, decode_tp: int, decode_dp: int
) -> int:
    """The prefill rank that a decode rank pulls KV from (CloudMatrix-Infer, section 4.3.3).

    Args:
        prefill_tp, decode_tp: ranks that share a sequence; the first is a multiple of the second.
        decode_dp: groups of `decode_tp` ranks, a multiple of the ratio of the two.

    Raises:
        ValueError: sizes that do not divide, or a rank outside of them.
    """
    ratio, rest = divmod(prefill_tp, decode_tp)
    if rest or not ratio or decode_dp % ratio:
        raise ValueError(
            f"prefill_tp {prefill_tp} must be a multiple of decode_tp {decode_tp}, and decode_dp "
            f"{decode_dp} one of their ratio"
        )
    if not (0 <= decode_dp_rank < decode_dp and 0 <= decode_tp_rank < decode_tp):
        raise ValueError(f"no rank ({decode_dp_rank}, {decode_tp_rank}) in {decode_dp}x{decode_tp}")
    group = decode_dp_rank // (decode_dp // ratio)
    return group * decode_tp + decode_tp_rank


class StaticMap(PrefillDecodeMap):
    """Decode workers, in the order of their ids, are dealt out to prefill workers in equal groups:
    CloudMatrix-Infer's formula with one rank for each worker. Load plays no part: a baseline.
    """

    def choose(
        self, request: RequestView, decode: WorkerLoad, workers: Sequence[WorkerLoad]
    ) -> str | None:
        """See `PrefillDecodeMap`."""
        prefill_ids = sorted(w.worker_id for w in prefillers(workers, but=decode.worker_id))
        if not prefill_ids:
            return None
        decode_ids = sorted(w.worker_id for w in workers if w.role != "prefill")
        number = decode_ids.index(decode.worker_id) if decode.worker_id in decode_ids else 0
        # Rounded up to full groups, so that the formula has sizes that divide.
        decode_dp = -(-max(1, len(decode_ids)) // len(prefill_ids)) * len(prefill_ids)
        rank = prefill_rank(
            number, 0, prefill_tp=len(prefill_ids), decode_tp=1, decode_dp=decode_dp
        )
        return prefill_ids[rank]
