"""Whether a slow disk ever costs more than computing, and what it is still good for.

    make bench-slow-disk

An engine over a directory whose reads are slowed down to a bandwidth. A history is saved; engines
that are started anew, with what the last one learned, get turns of it: beside computing the same
turn, in turns. Below the bandwidth at which loading takes as long as computing, one from the
front while the other comes from the back should take about half.
"""

import argparse
import random
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import report
from artesian.config import EngineConfig
from artesian.context import ContextCache, DiskTier, PreloadRule
from artesian.context.cost_file import CostFile
from artesian.engine.base import Request, SamplingParams
from artesian.engine.engine import LLMEngine
from artesian.engine.factory import create_engine
from artesian.kvcache import PrefixCache
from conversations import FIRST_ID, LAST_ID
from machine import describe
from report import Row

MEGABYTE = 1e6
MOST_SLOWER = 1.02
BANDWIDTHS = (2.0, 20.0, 40.0, 100.0, 400.0)
"""In MB/s. Computing 4,000 tokens of SmolLM2 makes about 20 MB/s of KV."""
COMPUTED = "computed"
CAPACITY = 4 << 30
SAVING_BYTES = 1 << 30
GREEDY = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
console = report.make_console()


class Case:
    """Engines over one directory, at one bandwidth."""

    def __init__(self, model: str, directory: Path, num_history: int) -> None:
        self._model = model
        self._directory = directory
        self._random = random.Random(0)
        self._history = self._tokens(num_history)

    def fill(self) -> None:
        """Saves the history at the disk's own speed."""
        engine = self._open(None)
        _first_token_s(engine, [*self._history, FIRST_ID])
        engine.close()

    def turn_s(self, bandwidth: float, num_new: int) -> tuple[float, int]:
        """Seconds of a turn in an engine that is started anew, and its cached tokens."""
        engine = self._open(bandwidth * MEGABYTE)
        _first_token_s(engine, self._tokens(200))  # wakes everything up
        try:
            return _first_token_s(engine, self._history + self._tokens(num_new))
        finally:
            engine.close()

    def computed_s(self, num_new: int) -> float:
        """Seconds of the same without any cache."""
        engine = create_engine(EngineConfig(model=self._model, enable_prefix_caching=False))
        _first_token_s(engine, self._tokens(200))
        return _first_token_s(engine, self._history + self._tokens(num_new))[0]

    def _open(self, bytes_per_s: float | None) -> LLMEngine:
        def opener(cache: PrefixCache, config: EngineConfig) -> ContextCache:
            arena = cache.allocator
            tier = DiskTier(self._directory, CAPACITY, arena, SAVING_BYTES, bytes_per_s)
            context = ContextCache(cache, [tier], config.block_size, rule=PreloadRule())
            context.keep_costs(CostFile(self._directory, f"{config.model} {bytes_per_s}"))
            return context

        return create_engine(EngineConfig(model=self._model), opener)

    def _tokens(self, count: int) -> list[int]:
        return [self._random.randrange(FIRST_ID, LAST_ID) for _ in range(count)]


def _first_token_s(engine: LLMEngine, prompt: list[int]) -> tuple[float, int]:
    engine.add_request(Request(request_id="r", prompt_token_ids=prompt, sampling=GREEDY))
    started = time.perf_counter()
    cached = 0
    while engine.has_work():
        for output in engine.step():
            cached = output.num_cached_tokens
    return time.perf_counter() - started, cached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--history", type=int, default=2_000)
    parser.add_argument("--new", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    rows = []
    for bandwidth in BANDWIDTHS:
        with TemporaryDirectory(prefix="artesian-bench-") as directory:
            case = Case(options.model, Path(directory) / "kv", options.history)
            case.fill()
            case.turn_s(bandwidth, options.new)  # learns what the disk is like
            rows.append(_measure(case, bandwidth, options))
    title = f"{options.model}: {options.history} tokens of history and {options.new} new ones"
    report.print_table(title, rows, ["Artesian", COMPUTED, "share cached"], console)
    console.print(f"written to {report.write('slow-disk', rows, machine)}")


def _measure(case: Case, bandwidth: float, options: argparse.Namespace) -> Row:
    ours, computed, shares = [], [], []
    for _ in range(options.rounds):
        seconds, cached = case.turn_s(bandwidth, options.new)
        ours.append(seconds * 1e3)
        shares.append(cached / options.history)
        computed.append(case.computed_s(options.new) * 1e3)
    value, baseline = statistics.median(ours), statistics.median(computed)
    return Row(
        subject=options.model,
        metric=f"first token from a disk of {bandwidth:g} MB/s",
        value=value,
        unit="ms",
        baseline=COMPUTED,
        baseline_value=baseline,
        better="less",
        target=MOST_SLOWER,
        values={
            "Artesian": value,
            COMPUTED: baseline,
            "share cached": statistics.median(shares),
        },
        spread={"Artesian": (min(ours), max(ours)), COMPUTED: (min(computed), max(computed))},
    )


if __name__ == "__main__":
    main()
