"""Measures a model on this machine."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from artesian.config.engine import EngineConfig
from artesian.machine import num_usable_cpus
from artesian.profile.base import Profile, Share
from artesian.profile.copying import copy_byte_s
from artesian.profile.costs import StepCosts
from artesian.profile.fit import Measured, errors, fit
from artesian.profile.identity import identify
from artesian.profile.neighbour import neighbour
from artesian.profile.steps import Part, StepBench

Advance = Callable[[str, int, int], None]
"""Called before each measurement: what it is, its number, and how many there are."""

_HELD_OUT = 4
"""Each fourth step is not fitted, but compared."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured.

    Attributes:
        batches, contexts: of decode steps; chunks, firsts: of prompts, in tokens.
        repeats: of each step.
        shares: of a core, of the process beside a prefill; the first one is 0.
    """

    batches: Sequence[int]
    contexts: Sequence[int]
    chunks: Sequence[int]
    firsts: Sequence[int]
    repeats: int
    shares: Sequence[float]


FULL = Extent(
    batches=(1, 2, 4, 8, 16, 32),
    contexts=(64, 256, 1024, 2048, 4096),
    chunks=(16, 64, 256, 1024),
    firsts=(0, 512, 2048),
    repeats=7,
    shares=(0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0),
)
QUICK = Extent(
    batches=(1, 4, 16),
    contexts=(64, 512, 2048),
    chunks=(16, 128, 512),
    firsts=(0, 512),
    repeats=3,
    shares=(0.0, 0.2, 0.5),
)


def measure(config: EngineConfig, extent: Extent, advance: Advance) -> Profile:
    """The profile of `config.model` on this machine.

    Raises:
        CheckpointError, MemoryPlanError: the model cannot be run.
        ValueError: there is too little memory for KV to measure with.
        OSError: there is no shared memory.
    """
    num_threads = config.num_threads or num_usable_cpus()
    bench = StepBench(config, num_threads)
    steps = [parts for parts in _steps(extent) if bench.fits(parts)]
    counts = _thread_counts(num_threads)
    total = len(steps) + len(counts) + len(extent.shares) + 1
    number = 0

    def begin(name: str) -> None:
        nonlocal number
        advance(name, number, total)
        number += 1

    measured = []
    for parts in steps:
        begin(_describe(parts))
        measured.append(bench.measure(parts, extent.repeats))
    costs, mean_error, max_error = _fit(measured)
    begin("hand-over")
    handover_byte_s = copy_byte_s(bench.layer_bytes, extent.repeats)
    beside = []
    for share in extent.shares:
        begin(f"prefill beside {share:.0%} of a core")
        beside.append(_beside(bench, share, extent))
    rates = {}
    for count in counts:
        begin(f"attention with {count} threads")
        with_count = bench if count == num_threads else StepBench(config, count)
        rates[count] = _attention_rate(with_count, extent)
    return Profile(
        identity=identify(config, bench.checkpoint, bench.kv_dtype, bench.isa),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        costs=costs,
        mean_error=mean_error,
        max_error=max_error,
        kv_bytes=bench.kv_bytes,
        capacity_tokens=bench.capacity_tokens,
        attention_bytes_per_s=rates,
        shares=[
            Share(share=share, bytes_per_s=rate, slowdown=seconds / beside[0][1])
            for share, (rate, seconds) in zip(extent.shares, beside, strict=True)
        ],
        handover_byte_s=handover_byte_s,
    )


def _steps(extent: Extent) -> Iterator[list[Part]]:
    for num in extent.batches:
        for context in extent.contexts:
            yield [(context - 1, 1)] * num
    for chunk in extent.chunks:
        for first in extent.firsts:
            yield [(first, chunk)]
    for num in extent.batches[1:]:  # prompts and answers together
        yield [*[(extent.contexts[1] - 1, 1)] * num, (extent.firsts[1], extent.chunks[1])]


def _describe(parts: Sequence[Part]) -> str:
    first, num = parts[-1]
    if num == 1:
        return f"decode {len(parts)} x {first + 1} tokens"
    return f"prefill {num} tokens at {first}" + (f" beside {len(parts) - 1}" * (len(parts) > 1))


def _fit(measured: Sequence[Measured]) -> tuple[StepCosts, float, float]:
    """Costs, and their mean and greatest error where they were not fitted."""
    fitted = [step for index, step in enumerate(measured) if index % _HELD_OUT != 1]
    held_out = [step for index, step in enumerate(measured) if index % _HELD_OUT == 1]
    costs = fit(fitted)
    wrong = errors(costs, held_out)
    return costs, sum(wrong) / len(wrong), max(wrong)


def _beside(bench: StepBench, share: float, extent: Extent) -> tuple[float, float]:
    """Bytes in a second that a process reads with that share of a core, and the time of a prefill
    beside it."""
    prompt = [(0, min(256, bench.max_rows, bench.max_model_len))]
    with neighbour(share) as reading:
        seconds = bench.seconds(prompt, extent.repeats)
    return reading.bytes_per_s, seconds


def _attention_rate(bench: StepBench, extent: Extent) -> float:
    """Bytes of KV in a second, by two steps that differ in context alone."""
    num = 4
    contexts = [c for c in extent.contexts if bench.fits([(c - 1, 1)] * num)]
    if len(contexts) < 2:
        raise ValueError(
            f"{bench.capacity_tokens} tokens of KV are too few to measure with: raise "
            "kv_cache_memory_bytes"
        )
    short, long = contexts[0], contexts[-1]
    short_s = bench.seconds([(short - 1, 1)] * num, 3 * extent.repeats)
    long_s = bench.seconds([(long - 1, 1)] * num, 3 * extent.repeats)
    return num * (long - short) * bench.kv_bytes / max(long_s - short_s, 1e-9)


def _thread_counts(num_threads: int) -> list[int]:
    """1, 2, 4, ... and all."""
    counts = [1 << power for power in range(num_threads.bit_length()) if 1 << power < num_threads]
    return [*counts, num_threads]
