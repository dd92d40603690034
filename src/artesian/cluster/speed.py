"""How fast a worker is, as the front sees it."""

from artesian.engine.base import EngineStats, RequestOutput
from artesian.engine.handover import PrefillDone, PrefillJob

_WEIGHT = 0.2
"""Of a new observation beside all before it."""


class SpeedMeter:
    """Running means; 0 until something was seen.

    Attributes:
        step_s: of one step with what runs.
        token_s: of a token of a prompt.
    """

    def __init__(self) -> None:
        self.step_s = 0.0
        self.token_s = 0.0
        self._last: tuple[float, EngineStats] | None = None

    def note_stats(self, stats: EngineStats, now: float) -> None:
        """The worker's counts have come."""
        last, self._last = self._last, (now, stats)
        if last is None or not last[1].num_requests_running or not stats.num_requests_running:
            return  # part of the time it had nothing to do
        num_steps = stats.num_steps - last[1].num_steps
        if num_steps > 0:
            self.step_s = _mean(self.step_s, (now - last[0]) / num_steps)

    def note_first(self, output: RequestOutput) -> None:
        """A request's first token has come."""
        num_computed = output.num_prompt_tokens - output.num_cached_tokens
        self._note_prefill(output.metrics.prefill_ms, num_computed)

    def note_prefill(self, job: PrefillJob, done: PrefillDone) -> None:
        """A prompt for a peer is computed."""
        self._note_prefill(done.prefill_ms, len(job.token_ids) - 1 - done.num_cached_tokens)

    def _note_prefill(self, prefill_ms: float | None, num_tokens: int) -> None:
        if prefill_ms and num_tokens > 0:
            self.token_s = _mean(self.token_s, prefill_ms / 1e3 / num_tokens)


def _mean(before: float, new: float) -> float:
    return new if before == 0.0 else (1 - _WEIGHT) * before + _WEIGHT * new
