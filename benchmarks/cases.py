"""What is measured on every engine, with the target and the machine's limit of each."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from limits import Limits
from peers.client import EngineProcess, EngineSpec
from work import Work

NUM_THREADS = 2
# One long request, and sixteen shorter ones: what an engine is loaded for.
SINGLE = (1, 8192)
BATCH = (16, 1024)
BATCH_CONTEXT = 128
NUM_SINGLE_TOKENS = 48
NUM_BATCH_TOKENS = 48

Seed = str


@dataclass(frozen=True, slots=True)
class Case:
    """One metric of a loaded engine.

    Attributes:
        shape: (max_num_seqs, max_model_len) that the engine is loaded with.
        run: measures once; prompts are drawn from the seed, the same for every engine.
        floor_s: least time in which this machine can make one unit of the metric.
    """

    metric: str
    unit: str
    target: float
    shape: tuple[int, int]
    run: Callable[[EngineProcess, Seed], float]
    floor_s: Callable[[Work, Limits], tuple[float, str]] | None = None
    better: Literal["more", "less"] = "more"


def prompt(num_tokens: int, seed: Seed) -> list[int]:
    """Token ids that no other seed's prompt begins with, so that no prefix cache helps."""
    draw = random.Random(seed)
    return [draw.randrange(100, 40_000) for _ in range(num_tokens)]


def cases() -> list[Case]:
    """Every metric in the order of the table, but start-up and perplexity."""
    return [
        *(_prefill(num_tokens) for num_tokens in (512, 2048, 7000)),
        _decode(128, target=1.5),
        _decode(4000, target=3.0),
        _concurrent(8),
        _concurrent(16),
        Case("peak memory, 16 x 1,024 tokens", "MiB", 1.0, BATCH, _peak_memory, better="less"),
    ]


def warm_up(engine: EngineProcess) -> None:
    """First calls allocate and tune; they are not measured."""
    engine.call("prefill_s", prompt(64, "warm-up"))
    engine.call("decode", [prompt(32, "warm-up decode")], 8)


def start_up_s(spec: EngineSpec, log: Path) -> float:
    """Seconds from starting the engine's process until a short prompt has its first token."""
    engine = EngineProcess(spec, log)
    try:
        engine.call("load", str(spec.model), NUM_THREADS, *SINGLE)
        engine.call("prefill_s", prompt(16, "start-up"))
        return time.perf_counter() - engine.started
    finally:
        engine.close()


def _prefill(num_tokens: int) -> Case:
    def run(engine: EngineProcess, seed: Seed) -> float:
        return num_tokens / float(engine.call("prefill_s", prompt(num_tokens, seed)))

    def floor_s(work: Work, limits: Limits) -> tuple[float, str]:
        linear, attention = work.prefill_macs(num_tokens)
        return _compute_s(linear, attention, limits) / num_tokens, f"{limits.int8_unit} peak"

    return Case(f"prefill {num_tokens:,}", "tokens/s", 1.5, SINGLE, run, floor_s)


def _decode(context: int, target: float) -> Case:
    def run(engine: EngineProcess, seed: Seed) -> float:
        took = engine.call("decode", [prompt(context, seed)], NUM_SINGLE_TOKENS)
        return float(took["num_tokens"] / took["decode_s"])

    def floor_s(work: Work, limits: Limits) -> tuple[float, str]:
        return _step_s(work, limits, context, 1)

    return Case(f"decode at {context:,}", "tokens/s", target, SINGLE, run, floor_s)


def _concurrent(num_requests: int) -> Case:
    def run(engine: EngineProcess, seed: Seed) -> float:
        prompts = [prompt(BATCH_CONTEXT, f"{seed} {row}") for row in range(num_requests)]
        took = engine.call("decode", prompts, NUM_BATCH_TOKENS)
        return float(took["num_tokens"] / took["decode_s"])

    def floor_s(work: Work, limits: Limits) -> tuple[float, str]:
        seconds, name = _step_s(work, limits, BATCH_CONTEXT, num_requests)
        return seconds / num_requests, name

    return Case(f"{num_requests} at once, decode", "tokens/s", 2.5, BATCH, run, floor_s)


def _peak_memory(engine: EngineProcess, seed: Seed) -> float:
    """After sixteen requests of half the room each, on top of what ran before."""
    prompts = [prompt(512, f"{seed} {row}") for row in range(BATCH[0])]
    engine.call("decode", prompts, 16)
    return float(engine.call("peak_memory_mib"))


def _compute_s(linear_macs: int, attention_macs: int, limits: Limits) -> float:
    """Linears in INT8 and attention in 16 or 32 bits, each at the peak of its best unit."""
    attention_gmacs = max(limits.bf16_gmacs, limits.fp32_gmacs)
    return (linear_macs / limits.int8_gmacs + attention_macs / attention_gmacs) / 1e9


def _step_s(work: Work, limits: Limits, context: int, batch: int) -> tuple[float, str]:
    """One decode step: reading and computing overlap, so the slower of the two."""
    bandwidth = limits.read_bytes_per_s(work.weight_bytes)
    read_s = work.decode_bytes(context, batch) / bandwidth
    compute_s = _compute_s(*work.decode_macs(context, batch), limits)
    return (read_s, "bandwidth") if read_s >= compute_s else (compute_s, f"{limits.int8_unit} peak")
