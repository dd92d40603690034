"""What can still be answered in time, after what steps cost and what is there already.

The aim is goodput: requests that keep the limits of time to first token (TTFT) and time per output
token (TPOT). The TPOT limit bounds how many sequences decode at once; what the TTFT limit leaves no
hope for is refused at once, so that it takes nothing from those that still can make it.
"""

from dataclasses import dataclass

from artesian.cluster.policies.step_cost import StepCost

# How much one request's error changes the correction of predictions, and its bounds.
GAIN = 0.1
MIN_CORRECTION, MAX_CORRECTION = 0.5, 3.0
# Predictions scatter, so that half of those let in at the very limit would be late: each that is
# brings down the part of the limit that is aimed at, each in time raises it a little (ours).
LATE_FACTOR, IN_TIME_STEP = 0.95, 0.002
MIN_AIM = 0.5


@dataclass(frozen=True)
class Slo:
    """Limits in seconds; None for none."""

    ttft_s: float | None = None
    tpot_s: float | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is any."""
        return self.ttft_s is not None or self.tpot_s is not None


@dataclass(frozen=True)
class Capacity:
    """The workers that take requests now, and each one's limits.

    Attributes:
        num_workers: that decode; num_prefilling: others, that compute prompts for these.
    """

    num_workers: int
    max_num_seqs: int
    max_num_batched_tokens: int
    num_prefilling: int = 0

    @property
    def num_computing(self) -> int:
        """Workers that compute prompts."""
        return max(1, self.num_workers + self.num_prefilling)


@dataclass(frozen=True)
class Load:
    """What is before a request.

    Attributes:
        num_running: sequences that workers have, prefill and decode.
        num_ahead: sequences in the queue before it.
        prefill_tokens: to compute before the request's own, at workers and in the queue.
        output_tokens: that each sequence is expected to produce, from its first to its last.
    """

    capacity: Capacity
    num_running: int = 0
    num_ahead: int = 0
    prefill_tokens: float = 0.0
    output_tokens: float = 0.0


class SloAdmission:
    """Predicts, decides, and learns how far its predictions are off."""

    def __init__(self, slo: Slo) -> None:
        self.slo = slo
        self.correction = 1.0
        self.aim = 1.0

    def max_running(self, capacity: Capacity, cost: StepCost | None) -> int:
        """Sequences that may run at once on all workers; at least one on each."""
        most = capacity.max_num_seqs
        if self.slo.tpot_s is not None and cost is not None:
            left_s = self.slo.tpot_s - cost.step_s
            if left_s < cost.decode_s * most:
                most = max(1, int(left_s / cost.decode_s))
        return most * capacity.num_workers

    def predict_tpot_s(self, load: Load, cost: StepCost) -> float:
        """Of a sequence that is added to the load, without prefills between."""
        workers = max(1, load.capacity.num_workers)
        return cost.tpot_s(min(load.num_running / workers + 1, load.capacity.max_num_seqs))

    def predict_ttft_s(
        self, load: Load, prefill_tokens: float, num_sequences: int, cost: StepCost | None
    ) -> float:
        """From now to the first token; 0 while nothing is known about the cost of steps."""
        if cost is None:
            return 0.0
        workers = max(1, load.capacity.num_workers)
        limit = max(1, self.max_running(load.capacity, cost))
        decoding = min(load.num_running, limit) / workers
        budget = load.capacity.max_num_batched_tokens
        waiting_s = self._slot_wait_s(load, num_sequences, limit, cost.tpot_s(decoding))
        if load.prefill_tokens:
            share = load.prefill_tokens / load.capacity.num_computing
            waiting_s = max(waiting_s, cost.prefill_time_s(share, decoding, budget))
        own_s = cost.prefill_time_s(prefill_tokens, decoding, budget)
        return self.correction * (waiting_s + own_s)

    def excess_s(self, ttft_s: float, alone_s: float) -> float:
        """By how much a request misses its limit; 0 if it can still keep it.

        A prompt that needs longer than the limit even `alone_s`, on workers that do nothing else,
        is never in time: it is let in as long as it waits no longer than others may.
        """
        if self.slo.ttft_s is None:
            return 0.0
        limit_s = self.aim * self.slo.ttft_s
        if alone_s > limit_s:
            limit_s += alone_s
        return max(0.0, ttft_s - limit_s)

    def observe(self, predicted_s: float, actual_s: float) -> None:
        """What a request's time to first token was predicted to be when it came, and was."""
        if self.slo.ttft_s is not None and predicted_s <= self.slo.ttft_s:
            is_late = actual_s > self.slo.ttft_s
            aim = self.aim * LATE_FACTOR if is_late else self.aim + IN_TIME_STEP
            self.aim = min(1.0, max(MIN_AIM, aim))
        if predicted_s <= 0 or actual_s <= 0:
            return
        ratio = self.correction * actual_s / predicted_s
        bounded = min(MAX_CORRECTION, max(MIN_CORRECTION, ratio))
        self.correction += GAIN * (bounded - self.correction)

    def is_met(self, ttft_s: float | None, tpot_s: float | None) -> dict[str, bool]:
        """For each limit that is set and applies, whether a request has kept it."""
        met = {}
        if self.slo.ttft_s is not None and ttft_s is not None:
            met["ttft"] = ttft_s <= self.slo.ttft_s
        if self.slo.tpot_s is not None and tpot_s is not None:
            met["tpot"] = tpot_s <= self.slo.tpot_s
        return met

    @staticmethod
    def _slot_wait_s(load: Load, num_sequences: int, limit: int, tpot_s: float) -> float:
        """Until a place in the batches is free, if they end as evenly as they begin."""
        missing = load.num_running + load.num_ahead + min(num_sequences, limit) - limit
        if missing <= 0:
            return 0.0
        return missing * load.output_tokens * tpot_s / limit
