"""One turn of a conversation whose history comes from disk: loading, computing and saving overlap.

    make bench-overlap
    make bench-overlap ARGS='--history 4000 --rounds 15'

The engine in this process. Every way is measured in every round, with new tokens each time; a
figure is the median of the rounds. The slow disk is a real one behind a token bucket that makes
loading the history take as long as computing the new tokens; the quick one is the page cache. The
ablations are those of CachedAttention (section 4.3 there, with 1K of history and 100 new tokens).
It also writes the timeline of one turn, and how quickly the disk is read in several ways.
"""

import argparse
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import report
from artesian.config.engine import EngineConfig
from artesian.context import ContextCache, DiskTier, Onboarding, PreloadRule
from artesian.context.preload import Progress
from artesian.engine.base import Request, SamplingParams
from artesian.engine.engine import LLMEngine
from artesian.engine.factory import create_engine
from artesian.kvcache import PrefixCache
from artesian.loader.native import NativeRunner
from machine import describe
from overlap_plot import Timeline, draw
from overlap_reads import time_reads
from report import Row

ALL_FIRST = "all blocks first"
IN_MEMORY = "history in memory"
RULE = "preload by the rule"
RULE_AND_TAIL = "preload by the rule, first blocks computed meanwhile"
ASYNC, SYNC = "saved beside it", "saved before it goes on"
CAPACITY_BYTES = 8 << 30
MOST_SAVING_BYTES = 256 << 20
NUM_ANSWER = 64
"""Tokens of the answer where saving is measured."""
IMAGE = Path(__file__).resolve().parent.parent / "docs" / "images" / "overlap.svg"
FIRST_ID, LAST_ID = 1_000, 40_000
console = report.make_console()
Prompt = list[int]


class Buffer(PreloadRule):
    """Starts with a fixed number of layers; none: as soon as loading begins."""

    def __init__(self, num_layers: int) -> None:
        self.num_layers = num_layers

    def may_start(self, progress: Progress, prefill_s: float, is_alone: bool) -> bool:
        """See `PreloadRule`."""
        wanted = min(self.num_layers, progress.num_layers)
        return progress.elapsed_s > 0 and progress.num_here >= wanted


class Chosen(PreloadRule):
    """Does as the rule says that is measured just now."""

    def __init__(self) -> None:
        self.rule: PreloadRule = PreloadRule()

    def may_start(self, progress: Progress, prefill_s: float, is_alone: bool) -> bool:
        """See `PreloadRule`."""
        return self.rule.may_start(progress, prefill_s, is_alone)


class Ablated(ContextCache):
    """May save before the engine goes on instead of beside it, and load all of a history instead of
    computing its first blocks while the others come."""

    waits = False
    splits = False

    def onboard(self, *args: object, **named: object) -> Onboarding | None:
        """See `ContextCache`."""
        named["may_split"] = self.splits and bool(named.get("may_split"))
        return super().onboard(*args, **named)  # type: ignore[arg-type]

    def save(self, *args: object, **named: object) -> int:
        """See `ContextCache`."""
        count = super().save(*args, **named)  # type: ignore[arg-type]
        while self.waits and self.num_saving:
            self.wait(0.05)
            self.poll()
        return count


@dataclass(slots=True)
class Bench:
    """An engine over a disk."""

    engine: LLMEngine
    rule: Chosen
    context: Ablated
    tier: DiskTier

    @classmethod
    def open(cls, model: str, directory: Path, bytes_per_s: float | None) -> "Bench":
        """Warmed up, so that it knows how quickly it computes."""
        rule = Chosen()
        parts: list[tuple[Ablated, DiskTier]] = []

        def opener(cache: PrefixCache, config: EngineConfig) -> ContextCache:
            arena = cache.allocator
            tier = DiskTier(directory, CAPACITY_BYTES, arena, MOST_SAVING_BYTES, bytes_per_s)
            parts.append((Ablated(cache, [tier], config.block_size, rule=rule), tier))
            return parts[0][0]

        bench = cls(create_engine(EngineConfig(model=model), opener), rule, *parts[0])
        bench.turn(random_tokens(random.Random(1), 300))
        bench.settle()
        return bench

    def turn(self, prompt: Prompt, num_tokens: int = 1) -> tuple[float, float]:
        """Seconds from the request to the end of its answer, and of its longest step."""
        sampling = SamplingParams(temperature=0, max_tokens=num_tokens, ignore_eos=True)
        started = time.perf_counter()
        self.engine.add_request(Request(request_id="", prompt_token_ids=prompt, sampling=sampling))
        longest_s = 0.0
        while self.engine.has_work():
            began = time.perf_counter()
            self.engine.step()
            longest_s = max(longest_s, time.perf_counter() - began)
        return time.perf_counter() - started, longest_s

    def settle(self) -> None:
        """Nothing is left in memory, and nothing is under way."""
        while self.context.is_busy:
            self.context.wait(0.05)
            self.context.poll()
        self.engine.cache.clear()


def random_tokens(chance: random.Random, count: int) -> Prompt:
    return [chance.randrange(FIRST_ID, LAST_ID) for _ in range(count)]


def preloads(num_layers: int) -> dict[str, PreloadRule]:
    """The ways to load, by name."""
    return {
        ALL_FIRST: Buffer(1 << 30),
        "preload without a buffer": Buffer(0),
        f"preload, buffer of {num_layers // 2} layers": Buffer(num_layers // 2),
        RULE: PreloadRule(),
        RULE_AND_TAIL: PreloadRule(),
    }


def measure_preload(
    bench: Bench, history: Prompt, num_new: int, num_rounds: int, chance: random.Random
) -> dict[str, list[tuple[float, float]]]:
    """(first token, step) in seconds, by way and round."""
    ways = preloads(bench.engine.cache.allocator.num_layers)
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in (*ways, IN_MEMORY)}
    for number in range(num_rounds + 1):
        for way, rule in ways.items():
            bench.settle()
            bench.rule.rule = rule
            bench.context.splits = way == RULE_AND_TAIL
            times = bench.turn(history + random_tokens(chance, num_new))
            if number:  # the first round finds out how quick the disk is
                found[way].append(times)
        found[IN_MEMORY].append(bench.turn(history + random_tokens(chance, num_new)))
    bench.context.splits = False
    return found


def measure_saving(
    bench: Bench, num_tokens: int, num_rounds: int, chance: random.Random
) -> dict[str, list[float]]:
    """Seconds of a whole turn with nothing cached, by way to save and round."""
    found: dict[str, list[float]] = {SYNC: [], ASYNC: []}
    for _ in range(num_rounds):
        for way, seconds in found.items():
            bench.settle()
            bench.context.waits = way == SYNC
            seconds.append(bench.turn(random_tokens(chance, num_tokens), NUM_ANSWER)[0])
    bench.context.waits = False
    return found


def trace(bench: Bench, history: Prompt, num_new: int, chance: random.Random) -> Timeline:
    """The timeline of one turn, from its request on."""
    bench.settle()
    runner = bench.engine.runner
    assert isinstance(runner, NativeRunner)
    runner.set_trace(True)
    bench.tier.set_trace(True)
    started = time.monotonic()
    bench.turn(history + random_tokens(chance, num_new))
    times = runner.take_trace()
    bench.settle()
    moves = bench.tier.take_trace()
    runner.set_trace(False)
    bench.tier.set_trace(False)
    allocator = bench.engine.cache.allocator
    return Timeline(started, allocator.num_layers, allocator.block_bytes, times, moves)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--history", type=int, default=1_024, help="tokens that are on disk")
    parser.add_argument("--new", type=int, default=100, help="tokens that are computed")
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    chance = random.Random(0)
    history = random_tokens(chance, options.history)
    rows: list[Row] = []
    with TemporaryDirectory(prefix="artesian-bench-") as name:
        directory = Path(name)
        quick = Bench.open(options.model, directory, None)
        quick.turn(history)
        in_memory = [
            quick.turn(history + random_tokens(chance, options.new))[1]
            for _ in range(options.rounds)
        ]
        prefill_s = min(in_memory)  # when nobody disturbed it
        console.print(f"the slow disk sends the history in {prefill_s * 1e3:.0f} ms")
        quick.settle()
        block_size = quick.engine.config.block_size
        history_bytes = options.history // block_size * quick.engine.cache.allocator.block_bytes
        slow = Bench.open(options.model, directory, history_bytes / prefill_s)
        for disk, bench in (("slow disk", slow), ("page cache", quick)):
            loads = measure_preload(bench, history, options.new, options.rounds, chance)
            rows += preload_rows(disk, loads)
            num_rounds = max(3, options.rounds // 3)
            saves = measure_saving(bench, options.history, num_rounds, chance)
            rows += saving_rows(disk, saves)
        slow.settle()
        IMAGE.write_text(draw(trace(slow, history, options.new, chance)))
        for bench in (slow, quick):
            bench.engine.close()
        rows += time_reads(directory / "reads", console)
    title = f"{options.model}: {options.history} tokens of history and {options.new} new ones"
    report.print_table(title, rows, ["Artesian", ALL_FIRST, SYNC, "whole blocks"], console)
    extra: dict[str, object] = {"model": options.model, "rounds": options.rounds}
    console.print(f"written to {report.write('overlap', rows, machine, extra)} and {IMAGE}")


def preload_rows(disk: str, loads: dict[str, list[tuple[float, float]]]) -> list[Row]:
    """Times to the first token, and of the step in which nobody else can run."""
    rows = []
    for index, what in enumerate(("first token", "step")):
        base = statistics.median(times[index] for times in loads[ALL_FIRST]) * 1e3
        for way, times in loads.items():
            value = statistics.median(time[index] for time in times) * 1e3
            rows.append(_row(disk, f"{what}, {way}", value, ALL_FIRST, base))
    return rows


def saving_rows(disk: str, saves: dict[str, list[float]]) -> list[Row]:
    """Times of whole turns."""
    base = statistics.median(saves[SYNC]) * 1e3
    value = statistics.median(saves[ASYNC]) * 1e3
    return [_row(disk, "turn with nothing cached, saved beside it", value, SYNC, base)]


def _row(
    disk: str, metric: str, value: float, baseline: str | None = None, base: float | None = None
) -> Row:
    values = {"Artesian": value}
    if baseline is not None and base is not None:
        values[baseline] = base
    return Row(
        subject=disk,
        metric=f"{disk}: {metric}",
        value=value,
        unit="ms",
        baseline=baseline,
        baseline_value=base,
        better="less",
        values=values,
    )


if __name__ == "__main__":
    main()
