"""The workers as the queue sees them: how many take requests, and what their steps cost."""

from collections.abc import Callable

from artesian.cluster.policies.slo_admission import Capacity
from artesian.cluster.policies.step_cost import StepCost, StepCostFit
from artesian.engine.base import EngineStats
from artesian.worker.client import ClusterStatus


class Workers:
    """What was last seen of them.

    Attributes:
        capacity: for the queue, which holds back what exceeds it; one worker at least, as requests
            that are given to a worker while it is replaced are kept for its successor.
        cost: of a step; None while too little is known.
    """

    def __init__(
        self, status: Callable[[], ClusterStatus], max_num_seqs: int, max_num_batched_tokens: int
    ) -> None:
        self._status = status
        self.capacity = Capacity(1, max_num_seqs, max_num_batched_tokens)
        self.cost: StepCost | None = None
        self._fit = StepCostFit()
        self._last: dict[str, EngineStats] = {}

    def look(self) -> None:
        """Takes in what is new since the last call."""
        members = [m for m in self._status().members if m.state in ("ready", "silent", "draining")]
        roles = [member.role for member in members if member.state != "draining"]
        num_prefilling = roles.count("prefill")
        most, budget = self.capacity.max_num_seqs, self.capacity.max_num_batched_tokens
        num_serving = max(1, len(roles) - num_prefilling)
        self.capacity = Capacity(num_serving, most, budget, num_prefilling)
        now = {f"{member.worker_id}.{member.generation}": member.stats for member in members}
        for name, stats in now.items():
            self._observe(self._last.get(name, stats), stats)
        self._last = now

    def _observe(self, last: EngineStats, stats: EngineStats) -> None:
        num_steps = stats.num_steps - last.num_steps
        if num_steps <= 0:
            return
        decoded = stats.generation_tokens - last.generation_tokens
        prefilled = stats.computed_tokens - last.computed_tokens - decoded
        self._fit.observe(num_steps, prefilled, decoded, stats.busy_s - last.busy_s)
        self.cost = self._fit.cost()
