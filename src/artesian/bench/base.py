"""What is asked, what is measured of each request, and what is reported."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests of equal size that arrive at random or as fast as they are answered.

    Attributes:
        num_prompts: requests in all.
        input_len_tokens, output_len_tokens: size of each.
        request_rate: arrivals per second on average (a Poisson process); infinite for all at once.
        max_concurrency: requests at the same time.
        seed: fixes prompts and arrivals.
    """

    num_prompts: int
    input_len_tokens: int
    output_len_tokens: int
    request_rate: float = math.inf
    max_concurrency: int = 1024
    seed: int = 0

    def arrivals_s(self) -> Iterator[float]:
        """When each request arrives, in seconds from the start."""
        source = random.Random(self.seed)
        now = 0.0
        for _ in range(self.num_prompts):
            yield now
            if math.isfinite(self.request_rate):
                now += source.expovariate(self.request_rate)


@dataclass(slots=True)
class RequestTiming:
    """One request as its client saw it; times in seconds of one clock.

    Attributes:
        output_s: when output came; a server may send several tokens at once.
        error: why it failed, if it did.
    """

    started_s: float
    output_s: list[float] = field(default_factory=list)
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    error: str | None = None

    @property
    def ttft_ms(self) -> float:
        """From the start to the first token."""
        return (self.output_s[0] - self.started_s) * 1e3

    @property
    def e2e_ms(self) -> float:
        """From the start to the last token."""
        return (self.output_s[-1] - self.started_s) * 1e3

    @property
    def tpot_ms(self) -> float:
        """Average time per output token after the first."""
        return (self.e2e_ms - self.ttft_ms) / (self.num_output_tokens - 1)


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one run; `latencies_ms` maps a name to mean and percentiles."""

    duration_s: float
    num_completed: int
    num_failed: int
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    latencies_ms: dict[str, dict[str, float]]
    errors: dict[str, int]


def summarize(timings: Sequence[RequestTiming], duration_s: float) -> Report:
    """Sums a run up; failed requests count in `num_failed` and `errors` only."""
    done = [t for t in timings if t.error is None and t.output_s]
    errors: dict[str, int] = {}
    for timing in timings:
        if timing.error is not None or not timing.output_s:
            reason = timing.error or "no output"
            errors[reason] = errors.get(reason, 0) + 1
    gaps_ms = [
        (after - before) * 1e3
        for timing in done
        for before, after in zip(timing.output_s, timing.output_s[1:], strict=False)
    ]
    num_prompt_tokens = sum(t.num_prompt_tokens for t in done)
    num_output_tokens = sum(t.num_output_tokens for t in done)
    return Report(
        duration_s=duration_s,
        num_completed=len(done),
        num_failed=len(timings) - len(done),
        num_prompt_tokens=num_prompt_tokens,
        num_cached_tokens=sum(t.num_cached_tokens for t in done),
        num_output_tokens=num_output_tokens,
        requests_per_s=len(done) / duration_s,
        output_tokens_per_s=num_output_tokens / duration_s,
        total_tokens_per_s=(num_prompt_tokens + num_output_tokens) / duration_s,
        latencies_ms={
            "TTFT": distribution([t.ttft_ms for t in done]),
            "TPOT": distribution([t.tpot_ms for t in done if t.num_output_tokens > 1]),
            "ITL": distribution(gaps_ms),
            "E2E": distribution([t.e2e_ms for t in done]),
        },
        errors=errors,
    )


def distribution(values: Sequence[float]) -> dict[str, float]:
    """Mean and percentiles; empty when there is nothing to measure."""
    if not values:
        return {}
    points = np.percentile(values, PERCENTILES)
    named = {f"p{p}": float(point) for p, point in zip(PERCENTILES, points, strict=True)}
    return {"mean": float(np.mean(values)), **named}
