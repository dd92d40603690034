"""Does a long prompt disturb those who are being answered, and what do idle cores give back?

    make bench-cluster
    make bench-cluster ARGS='--rounds 1 --seconds 30'
    make bench-cluster ARGS='--data /path/to/data'        also arrivals of a recorded trace

Two workers, one core each, share the same work in four ways: both do everything, prompts in one
piece; both do everything, prompts in chunks; one prefills and one decodes; the same, and the
one that prefills attends for the other when it can (Adrenaline). Under one load streams that decode
all the time, in answers of some tokens, are measured while bursts of long prompts come; under the
other one long answers decode and nothing else happens. TPOT is the mean time of a token behind the
first one of an answer. The ways take turns; figures are medians of rounds.
"""

import argparse
import asyncio
import csv
import itertools
import lzma
import random
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

import report
from cluster_identity import serving
from machine import describe
from multiturn import FIRST_ID, LAST_ID
from report import Row

console = report.make_console()
COMMON = ["--pin-workers", "--kv-cache-memory-bytes", "1500MiB", "--max-num-seqs", "32"]
UNCHUNKED, CHUNKED = "both, prompts whole", "both, prompts in chunks"
APART, OFFLOADED = "1P1D", "1P1D and attention offload"
WAYS = {
    UNCHUNKED: ["--both", "2", "--max-num-batched-tokens", "16384"],
    CHUNKED: ["--both", "2", "--max-num-batched-tokens", "256"],
    APART: ["--prefill", "1", "--decode", "1"],
    OFFLOADED: ["--prefill", "1", "--decode", "1", "--offload"],
}
MOST_TPOT_SHARE, LEAST_SPEEDUP = 0.4, 1.4
TIMEOUT_S = 300.0
AZURE = "llm/azure2023_conv_first14500.csv.xz"


@dataclass
class Stream:
    """One answer: when its tokens came, in seconds of one clock."""

    sent_s: float
    times: list[float] = field(default_factory=list)

    @property
    def ttft_s(self) -> float:
        """To the first token."""
        return self.times[0] - self.sent_s

    @property
    def gaps(self) -> list[float]:
        """Between tokens."""
        return [later - earlier for earlier, later in itertools.pairwise(self.times)]

    @property
    def tpot_s(self) -> float:
        """Mean time of a token behind the first."""
        return (self.times[-1] - self.times[0]) / max(len(self.times) - 1, 1)


@dataclass(frozen=True)
class Load:
    """Steady streams, and bursts of prompts beside them.

    Attributes:
        steady_answer: tokens of an answer of a steady stream, whose prompt is always the same.
        measured_s: what came in so many last seconds counts.
        arrivals: (seconds, tokens of the prompt, tokens of the answer) of requests that come.
    """

    num_steady: int
    steady_tokens: int
    steady_answer: int
    measured_s: float
    arrivals: list[tuple[float, int, int]]
    seconds: float


class Client:
    """Sends requests to one server."""

    def __init__(self, http: httpx.AsyncClient, model: str, seed: int) -> None:
        self._http = http
        self._model = model
        self._random = random.Random(seed)

    def prompt(self, num_tokens: int) -> list[int]:
        """A new one."""
        return [self._random.randrange(FIRST_ID, LAST_ID) for _ in range(num_tokens)]

    async def stream(
        self, prompt: list[int], num_answer: int, until_s: float, session: str = ""
    ) -> Stream:
        """Asks for an answer; it is given up at `until_s`."""
        body = {
            "model": self._model,
            "prompt": prompt,
            **({"session_id": session} if session else {}),
            "max_tokens": num_answer,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
        found = Stream(time.perf_counter())
        async with self._http.stream("POST", "/v1/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    found.times.append(time.perf_counter())
                    if found.times[-1] > until_s:
                        break
        return found


async def run_load(url: str, load: Load, seed: int) -> tuple[list[Stream], list[Stream]]:
    """The steady streams, and those of the arrivals."""
    limits = httpx.Limits(max_connections=1_000)
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits) as http:
        model = (await http.get("/v1/models")).json()["data"][0]["id"]
        client = Client(http, model, seed)
        for _ in range(4):  # every worker has been asked once, and has seen what prompts take
            await client.stream(client.prompt(300), 4, float("inf"))
        began = time.perf_counter()
        until_s = began + load.seconds

        async def steady(number: int) -> list[Stream]:
            found, prompt = [], client.prompt(load.steady_tokens)
            while time.perf_counter() < until_s:
                found.append(
                    await client.stream(prompt, load.steady_answer, until_s, f"stream-{number}")
                )
            return found

        async def arrive(at_s: float, num_prompt: int, num_answer: int) -> Stream:
            await asyncio.sleep(began + at_s - time.perf_counter())
            return await client.stream(client.prompt(num_prompt), num_answer, float("inf"))

        streams = asyncio.gather(*(steady(number) for number in range(load.num_steady)))
        others = asyncio.gather(*(arrive(*arrival) for arrival in load.arrivals))
        return list(itertools.chain.from_iterable(await streams)), await others


def bursts(options: argparse.Namespace) -> Load:
    """Long prompts, a few together, again and again, beside short answers."""
    times = itertools.count(options.every, options.every)
    arrivals = [
        (at_s, options.burst_tokens, 8)
        for at_s in itertools.takewhile(lambda at_s: at_s < options.seconds - 3, times)
        for _ in range(options.burst)
    ]
    seconds = options.seconds
    return Load(
        options.steady, options.steady_tokens, 32, seconds - options.every / 2, arrivals, seconds
    )


def decoding(options: argparse.Namespace) -> Load:
    """Long answers, and nothing else."""
    seconds = options.seconds + options.settle
    return Load(options.long, options.long_tokens, 6_000, options.seconds, [], seconds)


def recorded(options: argparse.Namespace) -> Load | None:
    """Requests of a trace, so many as this machine can serve."""
    path: Path | None = options.data and options.data / AZURE
    if path is None or not path.is_file():
        console.print("no recorded arrivals: name the folder that holds llm/ by --data")
        return None
    with lzma.open(path, "rt") as text:
        rows = list(itertools.islice(csv.DictReader(text), 400))
    step_s = 1 / options.trace_rate
    arrivals = [
        (number * step_s, min(int(r["ContextTokens"]), 4_000), min(int(r["GeneratedTokens"]), 200))
        for number, r in enumerate(rows)
        if number * step_s < options.seconds
    ]
    return Load(0, 0, 1, options.seconds, arrivals, options.seconds)


def figures(
    steady: list[Stream], others: list[Stream], load: Load, options: argparse.Namespace
) -> dict[str, float]:
    """What one run gives, by metric."""
    found: dict[str, float] = {}
    last_s = max(stream.times[-1] for stream in steady + others if stream.times)
    from_s = last_s - load.measured_s
    answers = [s for s in steady or others if len(s.times) > 8 and s.times[-1] >= from_s]
    tpots = sorted(stream.tpot_s for stream in answers)
    found["TPOT, median, ms"] = statistics.median(tpots) * 1e3
    found["TPOT, p99, ms"] = tpots[int(len(tpots) * 0.99)] * 1e3
    gaps = sorted(gap for stream in answers for gap in stream.gaps)
    found["longest time between two tokens, ms"] = gaps[-1] * 1e3
    num_tokens = sum(at >= from_s for stream in steady + others for at in stream.times)
    found["tokens decoded, 1/s"] = num_tokens / load.measured_s
    if others:
        ttfts = sorted(stream.ttft_s for stream in others)
        found["time to first token, median, ms"] = statistics.median(ttfts) * 1e3
        found["time to first token, p99, ms"] = ttfts[int(len(ttfts) * 0.99)] * 1e3
    good = [
        stream
        for stream in steady + others
        if stream.ttft_s <= options.ttft_slo and stream.tpot_s <= options.tpot_slo
    ]
    found["goodput, tokens of requests in time, 1/s"] = (
        sum(len(stream.times) for stream in good) / load.seconds
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--steady", type=int, default=4, help="streams that decode all the time")
    parser.add_argument("--steady-tokens", type=int, default=1_000, help="of their prompts")
    parser.add_argument("--burst", type=int, default=2, help="prompts that come together")
    parser.add_argument("--burst-tokens", type=int, default=2_000)
    parser.add_argument("--long", type=int, default=8, help="long answers of the second load")
    parser.add_argument("--long-tokens", type=int, default=1_000, help="of their prompts")
    parser.add_argument("--settle", type=float, default=25.0, help="seconds to compute these")
    parser.add_argument("--every", type=float, default=12.0, help="seconds between bursts")
    parser.add_argument("--trace-rate", type=float, default=0.25, help="requests/s of the trace")
    parser.add_argument("--ttft-slo", type=float, default=15.0, help="seconds")
    parser.add_argument("--tpot-slo", type=float, default=0.08, help="seconds")
    parser.add_argument("--loads", nargs="+", default=["bursts", "decoding", "trace"])
    parser.add_argument("--add", action="store_true", help="keep the results of other loads")
    parser.add_argument("--data", type=Path, help="folder that holds llm/")
    options = parser.parse_args()
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    loads = {"bursts": bursts(options), "decoding": decoding(options)}
    if "trace" in options.loads and (trace := recorded(options)) is not None:
        loads["trace"] = trace
    rows: list[Row] = []
    for title, load in loads.items():
        if title not in options.loads:
            continue
        if title == "decoding":
            title = f"decoding {options.long} behind {options.long_tokens}"
        found = _measure(title, load, options)
        report.print_table(title, found, list(options.ways), console)
        rows += found
    path = report.write("cluster", rows, machine, {"rounds": options.rounds}, adds=options.add)
    console.print(f"written to {path}")


def _measure(title: str, load: Load, options: argparse.Namespace) -> list[Row]:
    rounds: dict[str, dict[str, list[float]]] = {way: {} for way in options.ways}
    for number in range(options.rounds):
        for way in options.ways:
            with serving([options.model, *WAYS[way], *COMMON]) as url:
                steady, others = asyncio.run(run_load(url, load, number))
            found = figures(steady, others, load, options)
            for metric, value in found.items():
                rounds[way].setdefault(metric, []).append(value)
            console.print(f"{title}, round {number + 1}, {way}: {_line(found)}")
    return [_row(title, metric, rounds) for metric in rounds[options.ways[-1]]]


def _row(title: str, metric: str, rounds: dict[str, dict[str, list[float]]]) -> Row:
    values = {way: statistics.median(found[metric]) for way, found in rounds.items()}
    ours = OFFLOADED if OFFLOADED in values else list(values)[-1]
    baseline, target = (UNCHUNKED, None)
    if title == "bursts" and metric.startswith("TPOT, p99"):
        target = MOST_TPOT_SHARE
    if title.startswith("decoding"):
        baseline = APART
        target = LEAST_SPEEDUP if metric.startswith("tokens decoded") else None
    return Row(
        subject=title,
        metric=f"{title}: {metric.rpartition(', ')[0]}",
        value=values[ours],
        unit=metric.rpartition(", ")[2],
        baseline=baseline if baseline in values else None,
        baseline_value=values.get(baseline),
        better="less" if metric.endswith("ms") else "more",
        target=target,
        values=values,
        spread={way: (min(found[metric]), max(found[metric])) for way, found in rounds.items()},
    )


def _line(found: dict[str, float]) -> str:
    return "; ".join(f"{metric} {value:.1f}" for metric, value in found.items())


if __name__ == "__main__":
    main()
