"""Counts tokens and times of one API call, for its `usage` and for the metrics."""

import time

from artesian.api.protocol.base import PromptTokensDetails, Timings, Usage
from artesian.engine.base import RequestMetrics, RequestOutput
from artesian.metrics.serving import ServingMetrics


class UsageMeter:
    """Follows the outputs of the engine requests that one API call became."""

    def __init__(self, prompt_lens: list[int], metrics: ServingMetrics) -> None:
        self.prompt_tokens = sum(prompt_lens)
        self.completion_tokens = 0
        self._cached_tokens = [0] * len(prompt_lens)
        self._truncated_tokens = [0] * len(prompt_lens)
        self.front_queue_ms = 0.0
        self._metrics = metrics
        self._arrived = time.monotonic()
        self._first: float | None = None
        self._last: dict[tuple[int, int], float] = {}
        self._tokens_at_first = 0
        self._engine = RequestMetrics()

    def add(self, request_index: int, outputs: list[RequestOutput]) -> None:
        """Takes outputs of one engine request in."""
        now = time.monotonic()
        for output in outputs:
            self._cached_tokens[request_index] = max(
                self._cached_tokens[request_index], output.num_cached_tokens
            )
            self._truncated_tokens[request_index] = max(
                self._truncated_tokens[request_index], output.num_truncated_tokens
            )
            self._engine = output.metrics
            num_tokens = len(output.token_ids)
            if not num_tokens:
                continue
            self.completion_tokens += num_tokens
            sequence = request_index, output.index
            previous = self._last.get(sequence)
            if previous is not None:
                self._metrics.inter_token_latency.observe((now - previous) / num_tokens)
            self._last[sequence] = now
        if self._first is None and self.completion_tokens:
            self._first = now
            self._tokens_at_first = self.completion_tokens
            self._metrics.time_to_first_token.observe(now - self._arrived)

    def finish(self, reason: str) -> None:
        """Counts the call as ended; `reason` is a finish reason, "abort" or "error"."""
        self._metrics.requests.labels(finished_reason=reason).inc()
        self._metrics.e2e_request_latency.observe(time.monotonic() - self._arrived)
        if self._engine.queue_ms is not None:
            self._metrics.request_queue_time.observe(self._engine.queue_ms / 1000)

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens whose KV was found in the cache."""
        return sum(self._cached_tokens)

    @property
    def worker_queue_ms(self) -> float | None:
        """At the worker, before the first step."""
        return self._engine.queue_ms

    @property
    def ttft_ms(self) -> float | None:
        """From arrival to the first token."""
        return None if self._first is None else _rounded((self._first - self._arrived) * 1e3)

    def usage(self) -> Usage:
        """The response's `usage`."""
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            total_tokens=self.prompt_tokens + self.completion_tokens,
            prompt_tokens_details=self._details(),
            artesian=self._timings(),
        )

    def _details(self) -> PromptTokensDetails:
        details = PromptTokensDetails(cached_tokens=self.cached_tokens)
        if num_truncated := sum(self._truncated_tokens):
            details.truncated_tokens = num_truncated
        return details

    def _queue_ms(self) -> float | None:
        """In the front and at the worker."""
        queue_ms = self._engine.queue_ms
        return None if queue_ms is None else self.front_queue_ms + queue_ms

    def _timings(self) -> Timings:
        now = time.monotonic()
        timings = Timings(
            queue_ms=_rounded(self._queue_ms()),
            prefill_ms=_rounded(self._engine.prefill_ms),
            e2e_ms=_rounded((now - self._arrived) * 1000),
            num_preemptions=self._engine.num_preemptions,
        )
        if self._first is not None:
            timings.ttft_ms = self.ttft_ms
            num_tokens = self.completion_tokens - self._tokens_at_first
            seconds = max(self._last.values()) - self._first
            if num_tokens > 0 and seconds > 0:
                timings.tokens_per_s = round(num_tokens / seconds, 2)
        return timings


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
