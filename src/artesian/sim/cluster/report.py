"""What came of a simulated cluster."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from artesian.sim.cluster.calls import Job
from artesian.sim.cluster.instance import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What a request should keep to count for goodput; None: anything goes."""

    ttft_s: float | None = None
    tpot_s: float | None = None

    def are_met(self, job: Job) -> bool:
        """Whether a finished job has kept them."""
        is_early = self.ttft_s is None or job.ttft_s <= self.ttft_s
        return is_early and (self.tpot_s is None or job.tpot_s <= self.tpot_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run, or the part of it that was looked at.

    Attributes:
        num_finished: calls that came and ended; num_refused: that fit nowhere.
        duration_s: virtual time.
        ttft_ms, tpot_ms: p50 and p99 of calls, TPOT of those with more than one token.
        mean_tpot_ms: the same, averaged.
        itl_ms: p50 and p99 of times between two tokens of a sequence.
        goodput_per_s: calls that met their targets; requests_per_s: all that ended.
        tokens_per_s: of answers, all instances together.
        prefill_busy, decode_busy: parts of the time that instances compute; `both` counts as
            decode.
        offload_ratio: offloaded to local sequences, averaged over time.
    """

    num_finished: int
    num_refused: int
    duration_s: float
    ttft_ms: tuple[float, float]
    tpot_ms: tuple[float, float]
    mean_tpot_ms: float
    itl_ms: tuple[float, float]
    goodput_per_s: float
    requests_per_s: float
    tokens_per_s: float
    prefill_busy: float
    decode_busy: float
    offload_ratio: float
    num_preemptions: int
    num_role_changes: int

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass(slots=True)
class Counts:
    """What instances had done at some time."""

    time_s: float
    tokens: int
    busy_s: dict[str, float]
    offloaded_s: float
    local_s: float

    @classmethod
    def of(cls, instances: Sequence[Instance], now: float) -> "Counts":
        """As it is now."""
        return cls(
            now,
            sum(instance.num_tokens for instance in instances),
            {instance.worker_id: instance.busy_s for instance in instances},
            sum(instance.offloaded_s for instance in instances),
            sum(instance.local_s for instance in instances),
        )


def summarize(
    jobs: Sequence[Job],
    begin: Counts,
    end: Counts,
    instances: Sequence[Instance],
    targets: Targets,
    num_refused: int,
    num_role_changes: int,
) -> Report:
    """The report over what ended between two counts."""
    seconds = max(end.time_s - begin.time_s, 1e-12)
    ended = [job for job in jobs if begin.time_s <= job.last_s <= end.time_s]
    longer = [job for job in ended if job.call.num_output_tokens > 1]
    busy = {name: (end.busy_s[name] - begin.busy_s.get(name, 0.0)) / seconds for name in end.busy_s}
    local_s = end.local_s - begin.local_s
    return Report(
        num_finished=len(ended),
        num_refused=num_refused,
        duration_s=seconds,
        ttft_ms=_percentiles([job.ttft_s for job in ended]),
        tpot_ms=_percentiles([job.tpot_s for job in longer]),
        itl_ms=_weighted([gap for i in instances for gap in i.gaps if begin.time_s < gap[0]]),
        mean_tpot_ms=1e3 * _mean([job.tpot_s for job in longer]),
        goodput_per_s=sum(targets.are_met(job) for job in ended) / seconds,
        requests_per_s=len(ended) / seconds,
        tokens_per_s=(end.tokens - begin.tokens) / seconds,
        prefill_busy=_mean([busy[i.worker_id] for i in instances if i.role == "prefill"]),
        decode_busy=_mean([busy[i.worker_id] for i in instances if i.role != "prefill"]),
        offload_ratio=(end.offloaded_s - begin.offloaded_s) / local_s if local_s else 0.0,
        num_preemptions=sum(job.num_preemptions for job in ended),
        num_role_changes=num_role_changes,
    )


def _percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    if not seconds:
        return 0.0, 0.0
    p50, p99 = np.percentile(np.array(seconds), [50, 99]) * 1e3
    return float(p50), float(p99)


def _weighted(gaps: Sequence[tuple[float, float, int]]) -> tuple[float, float]:
    """p50 and p99, in ms, of gaps that came at some time, each so many times."""
    if not gaps:
        return 0.0, 0.0
    values = np.array([seconds for _, seconds, _ in gaps])
    order = np.argsort(values)
    counts = np.cumsum(np.array([num for *_, num in gaps])[order])
    p50, p99 = (values[order][np.searchsorted(counts, part * counts[-1])] for part in (0.5, 0.99))
    return 1e3 * float(p50), 1e3 * float(p99)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
