"""Hit ratios of the pool's cache on real traces, beside those of well-known algorithms.

    make bench-cache
    make bench-cache ARGS='--traces lirs arc_OLTP --sizes 10 --most-requests 1000000'

The cache is the real one: its table, protocol and sampled evictions, on a pool in the memory of one
process. The others are libcachesim's simulations, exact ones, in the same run. Every object counts
the same; a cache starts empty; sizes are parts of the number of different keys.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import cache_traces
import report
from cache_traces import Trace
from machine import ROOT, describe
from report import Row

DATA = ROOT.parent / "shared" / "data" / "cache"
PROGRAM = ROOT / "target" / "release" / "examples" / "cache_replay"
OURS = "Artesian"
VARIANTS = {
    OURS: [],
    "Ditto": ["--algorithms", "lru,lfu", "--learning", "regrets"],
    "first alone": ["--algorithms", "quick-demotion"],
}
COLUMNS = [*VARIANTS, "LRU", "LFU", "ARC", "S3FIFO", "Sieve", "LeCaR", "Belady"]
TOLERANCE = 0.5
"""Points by which the better of LRU and LFU may be missed on a single trace and size."""

console = report.make_console()
Ratios = dict[str, float]
"""Per cent of the requests that hit, by who served them."""


@dataclass(frozen=True, slots=True)
class Case:
    """One trace and size."""

    trace: str
    percent: float
    capacity: int
    ratios: Ratios

    @property
    def better(self) -> str:
        """The better of LRU and LFU."""
        return max(("LRU", "LFU"), key=lambda name: self.ratios[name])

    @property
    def lead(self) -> float:
        """Points ahead of that."""
        return self.ratios[OURS] - self.ratios[self.better]


def main() -> None:
    options = parse()
    if reason := missing(options.data):
        console.print(f"[yellow]skipped: {reason}[/]")
        return
    machine = describe()
    found = [*cache_traces.real(options.data), cache_traces.phases()]
    chosen = [
        trace
        for trace in found
        if not options.traces or any(trace.name.startswith(name) for name in options.traces)
    ]
    cases = []
    with TemporaryDirectory(prefix="artesian-bench-") as directory:
        for trace in chosen:
            some = measure(trace.shortened(options.most_requests), options, Path(directory))
            rows = [case_row(case) for case in some]
            report.print_table(f"{trace.name}, hit ratio in %", rows, COLUMNS, console)
            cases += some
    summary = summary_rows(cases)
    report.print_table("all of them", summary, COLUMNS, console)
    rows = [case_row(case) for case in cases] + summary
    extra: dict[str, object] = {"most_requests": options.most_requests}
    console.print(f"written to {report.write('cache', rows, machine, extra)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("ARTESIAN_TRACES", DATA))
    parser.add_argument("--data", type=Path, default=data, help="folder of the traces")
    parser.add_argument("--traces", nargs="+", help="only those whose names begin like this")
    parser.add_argument(
        "--sizes", nargs="+", type=float, default=[1, 5, 10, 20], help="in per cent"
    )
    parser.add_argument("--most-requests", type=int, help="only so many first ones of each trace")
    return parser.parse_args()


def missing(data: Path) -> str | None:
    """What is lacking, in words."""
    if not PROGRAM.exists():
        return "cargo build --release -p artesian-pool --example cache_replay has not been run"
    if importlib.util.find_spec("libcachesim") is None:
        return "pip install --no-deps libcachesim has not been run"
    if not data.is_dir() or not any(data.glob("*.xz")):
        return f"no traces in {data}: name their folder by --data or ARTESIAN_TRACES"
    return None


def measure(trace: Trace, options: argparse.Namespace, directory: Path) -> list[Case]:
    """All sizes of one trace."""
    keys = directory / "keys"
    trace.keys.tofile(keys)
    capacities = {percent: max(1, int(trace.unique * percent / 100)) for percent in options.sizes}
    numbers = [str(capacity) for capacity in capacities.values()]
    peers = Path(__file__).with_name("cache_peers.py")
    theirs = json.loads(run([sys.executable, str(peers), str(keys), *numbers])[-1])
    ours = {
        name: [
            json.loads(line)
            for line in run([str(PROGRAM), str(keys), "--objects", ",".join(numbers), *flags])
        ]
        for name, flags in VARIANTS.items()
    }
    cases = []
    for number, (percent, capacity) in enumerate(capacities.items()):
        ratios = {name: found[number]["hit_ratio"] for name, found in ours.items()}
        ratios |= theirs[str(capacity)]
        in_percent = {name: 100 * ratio for name, ratio in ratios.items()}
        cases.append(Case(trace.name, percent, capacity, in_percent))
    return cases


def run(command: list[str]) -> list[str]:
    """Lines of what the command prints."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip().splitlines()


def case_row(case: Case) -> Row:
    return Row(
        subject=case.trace,
        metric=f"{case.percent:g}%, {case.capacity} objects",
        value=case.ratios[OURS],
        unit="",
        baseline="ARC",
        baseline_value=case.ratios["ARC"],
        values=case.ratios,
    )


def summary_rows(cases: list[Case]) -> list[Row]:
    mean = {name: fmean(case.ratios[name] for case in cases) for name in COLUMNS}
    worst = min(cases, key=lambda case: case.lead)
    allowed = {**worst.ratios, OURS: worst.ratios[OURS] + TOLERANCE}
    rows = [
        Row(
            subject="all traces",
            metric=f"mean of {len(cases)} hit ratios",
            value=mean[OURS],
            unit="%",
            baseline=peer,
            baseline_value=mean[peer],
            target=target,
            values=mean,
        )
        for peer, target in (("ARC", 1.0), ("S3FIFO", None))
    ]
    place = f"{worst.trace} at {worst.percent:g}%"
    metric = f"worst against LRU and LFU: {place}, with {TOLERANCE} points added to ours"
    rows.append(
        Row(
            subject="all traces",
            metric=metric,
            value=allowed[OURS],
            unit="%",
            baseline=worst.better,
            baseline_value=worst.ratios[worst.better],
            target=1.0,
            values=allowed,
        )
    )
    return rows


if __name__ == "__main__":
    main()
