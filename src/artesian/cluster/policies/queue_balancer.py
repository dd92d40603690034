"""Roles by predicted queue times."""

from collections.abc import Sequence

from artesian.cluster.policies.base import RequestView, RoleBalancer, RoleChange, WorkerLoad
from artesian.cluster.policies.predict import place_wait_s

_TYPICAL = RequestView(num_prompt_tokens=1, num_output_tokens=128)


class QueueTimeBalancer(RoleBalancer):
    """Gives a worker to the side whose requests wait longer (ours).

    A side's pressure is its mean predicted waiting time over its target. A worker moves when one
    side has been above 1 and `factor` times above the other for `hold_s` without a break, and would
    not be the less loaded one afterwards; then nothing moves for `rest_s`. Each side keeps one.
    """

    def __init__(
        self,
        ttft_s: float = 1.0,
        factor: float = 2.0,
        hold_s: float = 10.0,
        rest_s: float = 60.0,
    ) -> None:
        """`ttft_s`: how long a request may wait, for its prefill or for a place to decode."""
        self._ttft_s = ttft_s
        self._factor = factor
        self._hold_s = hold_s
        self._rest_s = rest_s
        self._since: tuple[str, float] | None = None
        self._rests_until: float | None = None

    def decide(self, workers: Sequence[WorkerLoad], now: float) -> RoleChange | None:
        """See `RoleBalancer`."""
        available = [load for load in workers if load.is_available]
        prefill = [load for load in available if load.role == "prefill"]
        decode = [load for load in available if load.role == "decode"]
        wants = self._wants(prefill, decode)
        if wants is None:
            self._since = None
            return None
        if self._since is None or self._since[0] != wants:
            self._since = (wants, now)
        if now - self._since[1] < self._hold_s:
            return None
        if self._rests_until is not None and now < self._rests_until:
            return None
        self._since = None
        self._rests_until = now + self._rest_s
        givers = decode if wants == "prefill" else prefill
        giver = min(givers, key=lambda load: (load.used_blocks, load.queued_tokens, load.worker_id))
        return RoleChange(giver.worker_id, "prefill" if wants == "prefill" else "decode")

    def _wants(self, prefill: list[WorkerLoad], decode: list[WorkerLoad]) -> str | None:
        """The side that should have one more worker."""
        prefill_s = sum(load.queue_s for load in prefill)
        decode_s = sum(place_wait_s(_TYPICAL, load) for load in decode)
        sides = (
            ("prefill", prefill_s, len(prefill), decode_s, len(decode)),
            ("decode", decode_s, len(decode), prefill_s, len(prefill)),
        )
        for name, work_s, num, other_s, num_other in sides:
            if num_other < 2 or not num:
                continue
            is_late = work_s / num > self._ttft_s
            is_uneven = work_s / num > self._factor * other_s / num_other
            # As it would be with the same work: not turned round by the move.
            stays = work_s / (num + 1) > other_s / (num_other - 1)
            if is_late and is_uneven and stays:
                return name
        return None
