"""A mixed load of files on a simulated origin: our advisor beside one policy for all.

    make bench-files_simulated ARGS='--data DIR --seeds 5'

DIR has the recorded loads (benchmarks/README.md says which). The origin gives 100 MB/s to all, with
30 ms to the first byte. All caches have the same bytes. A hit is a block that was there when it was
wanted; one that was on its way is none.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import report
from artesian.files import BLOCK_BYTES
from artesian.files.advisor import AdvisorOptions, PatternAdvisor
from artesian.files.tree import TreeOptions
from artesian.sim.files import AdvisedCache, FileCache, FilesOutcome, Simulation, furthest_next_use
from file_loads import mixed
from file_peers import peers
from machine import describe
from report import Row

OURS = "Artesian"
ABLATIONS = {
    "without tests": AdvisorOptions(judges=False),
    "without test of repeats": AdvisorOptions(tree=TreeOptions(tests_repeats=False)),
    "without prefetch": AdvisorOptions(prefetches=False),
    "without eviction by verdict": AdvisorOptions(evicts_by_verdict=False),
    "with equal shares": AdvisorOptions(shares_by="equal"),
    "with S3-FIFO": AdvisorOptions(skewed="s3fifo"),
}
HIT_TARGET = 1.556
TIME_TARGET = 0.478
"""Ratios to the best baseline, as IGTCache's abstract claims them for its own loads."""
console = report.make_console()


def caches(with_ablations: bool) -> dict[str, Callable[[int], FileCache]]:
    """Caches by name, of a capacity in bytes."""
    found: dict[str, Callable[[int], FileCache]] = {OURS: _ours(AdvisorOptions())}
    found |= peers(BLOCK_BYTES)
    if with_ablations:
        for name, options in ABLATIONS.items():
            found[name] = _ours(options)
    return found


def _ours(options: AdvisorOptions) -> Callable[[int], FileCache]:
    return lambda capacity: AdvisedCache(PatternAdvisor(capacity, options=options), capacity)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parts", type=float, nargs="+", default=[0.1, 0.3, 0.6])
    parser.add_argument("--shorter", type=int, default=1)
    parser.add_argument("--no-ablations", action="store_true")
    options = parser.parse_args()
    makers = caches(not options.no_ablations)
    rows: list[Row] = []
    for part in options.parts:
        outcomes: dict[str, list[FilesOutcome]] = {name: [] for name in makers}
        bounds = []
        for seed in range(options.seeds):
            for name, make in makers.items():
                jobs = mixed(options.data, seed, options.shorter)
                total = sum(size for job in jobs for size in job.sizes().values())
                capacity = int(part * total)
                began = time.perf_counter()
                outcome = Simulation(jobs, make(capacity)).run()
                if name == OURS:
                    bounds.append(furthest_next_use(outcome.order, capacity))
                outcome.order.clear()
                outcomes[name].append(outcome)
                console.print(_line(name, part, seed, outcome, time.perf_counter() - began))
        rows += _rows(part, outcomes, statistics.median(bounds))
    report.print_table("files, simulated", rows, list(makers), console)
    extra: dict[str, object] = {"seeds": options.seeds, "shorter": options.shorter}
    console.print(f"written to {report.write('files-simulated', rows, describe(), extra)}")


def _line(name: str, part: float, seed: int, outcome: FilesOutcome, took_s: float) -> str:
    jobs = "  ".join(
        f"{name} {job.took_s:.0f} s {job.num_hits / max(1, job.num_blocks):.2f}"
        for name, job in outcome.jobs.items()
    )
    return (
        f"{part:.0%} seed {seed} {name}: hits {outcome.hit_ratio:.3f}, mean "
        f"{outcome.mean_took_s:.0f} s, {outcome.origin_bytes / 1e9:.0f} GB [{jobs}] ({took_s:.0f})"
    )


METRICS: dict[str, Callable[[FilesOutcome], float]] = {
    "hit ratio of blocks": lambda outcome: outcome.hit_ratio,
    "hit ratio of bytes": lambda outcome: outcome.byte_hit_ratio,
    "mean job time": lambda outcome: outcome.mean_took_s,
    "last job ends": lambda outcome: max(job.took_s for job in outcome.jobs.values()),
    "origin": lambda outcome: outcome.origin_bytes / 1e9,
}
UNITS = {"mean job time": "s", "last job ends": "s", "origin": "GB"}
TARGETS = {"hit ratio of blocks": HIT_TARGET, "mean job time": TIME_TARGET}


def _rows(part: float, outcomes: dict[str, list[FilesOutcome]], bound: float) -> list[Row]:
    rows = []
    for metric, of in METRICS.items():
        values = {name: statistics.median(map(of, found)) for name, found in outcomes.items()}
        spread = {name: (min(map(of, f)), max(map(of, f))) for name, f in outcomes.items()}
        better: Literal["more", "less"] = "less" if metric in UNITS else "more"
        others = {name: values[name] for name in peers(BLOCK_BYTES)}
        baseline = report.best(others, better)
        is_hits = metric == "hit ratio of blocks"
        rows.append(
            Row(
                subject=f"mixed load, cache of {part:.0%}",
                metric=f"{metric}, {part:.0%}",
                value=values[OURS],
                unit=UNITS.get(metric, ""),
                baseline=baseline,
                baseline_value=others[baseline] if baseline else None,
                better=better,
                target=TARGETS.get(metric),
                values=values,
                spread=spread,
                share=values[OURS] / bound if is_hits and bound else None,
                limit="(Belady, no prefetch)" if is_hits else "",
            )
        )
    return rows


if __name__ == "__main__":
    main()
