"""The simulated cluster against two papers, and where offloading attention loses.

    make bench-simulate-cluster
    make bench-simulate-cluster ARGS='--seeds 3 --jobs 2'

Calibrated figures and predicted ones are apart: `adrenaline_paper.py` and `cloudmatrix_paper.py`
say which are which. The policies are those of the real cluster. `--profile FILE` of `artesian
profile` adds the curve of its machine. The clock is virtual: a busy machine only takes longer.
"""

import argparse
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from rich.table import Table

import adrenaline_paper as adrenaline
import cloudmatrix_paper as cloudmatrix
import report
from artesian.plots import Point, draw_lines
from artesian.sim.cluster import Cluster, Machine, Policies, Report, fixed_lengths
from artesian.sim.cluster.setting import machine_by_name
from machine import ROOT, describe
from report import Row

IMAGES = ROOT / "docs" / "images"
MOST_ERROR = 0.1
LOADS = (0.5, 0.7, 0.8, 0.9, 1.0)
"""Of the calls that the decode instance can serve without offloading."""
SHAPES = ((2, 1), (1, 1), (1, 2), (1, 3))
SHAPE_RATIOS = ("none", "0.2", "0.4", "0.6", "0.8", "1.0", "1.2", "any")
CONTEXTS = (256, 1024, 2048, 4096)
NUM_OUTPUT = 256
"""Of answers, where a profiled machine is simulated."""
SIMULATED, PAPER = "simulated", "paper"
console = report.make_console()


@dataclass(frozen=True, slots=True)
class Job:
    """One run of `adrenaline_paper.simulate`."""

    model: str
    data: str
    offload: str
    calls_per_s: float | None = None
    seed: int = 0
    num_prefill: int = 1
    num_decode: int = 1

    def run(self) -> Report:
        """Simulates it."""
        return adrenaline.simulate(
            self.model,
            self.data,
            self.offload,
            self.calls_per_s,
            self.seed,
            self.num_prefill,
            self.num_decode,
        )


class Runs:
    """Reports of jobs, each run once."""

    def __init__(self, num_jobs: int) -> None:
        self._num_jobs = num_jobs
        self._reports: dict[Job, Report] = {}

    def add(self, jobs: Iterable[Job]) -> None:
        """Runs those that have not run yet."""
        new = list(dict.fromkeys(job for job in jobs if job not in self._reports))
        with ProcessPoolExecutor(self._num_jobs) as pool:
            self._reports |= dict(zip(new, pool.map(Job.run, new), strict=True))

    def __getitem__(self, job: Job) -> Report:
        return self._reports[job]


def main() -> None:
    """Runs everything and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer ratios")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each kind, averaged")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--profile", help="file of `artesian profile`, for a curve of its machine")
    arguments = parser.parse_args()
    machine = describe()
    runs = Runs(arguments.jobs)
    seeds = range(arguments.seeds)
    ratios = adrenaline.RATIOS[::2] if arguments.quick else adrenaline.RATIOS
    rows = paper_rows(runs, seeds, ratios)
    print_rows("Adrenaline, predicted", rows)
    print_inputs()
    cloud = cloudmatrix_rows()
    print_rows("CloudMatrix-Infer, decode, predicted from two of its rows", cloud)
    loads = load_rows(runs, seeds)
    print_plain("Change by offloading (any), Llama-2-7B, OpenThoughts, by load", loads)
    shapes = shape_rows(runs)
    print_plain("Throughput over none, Llama-2-7B, ShareGPT, by prefill:decode instances", shapes)
    heavy = prompt_heavy_rows()
    print_plain("The same where prompts are long and answers short (3,000 and 100 tokens)", heavy)
    rows += cloud + loads + shapes + heavy
    if arguments.profile:
        own = profile_rows(machine_by_name(arguments.profile))
        print_plain(f"{arguments.profile}: throughput over none, by context", own)
        rows += own
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "offload-ratio.svg").write_text(ratio_plot(runs, seeds, ratios))
    extra = {"calibrated": adrenaline.CALIBRATION, "assumed": adrenaline.ASSUMED}
    console.print(f"written to {report.write('simulate-cluster', rows, machine, extra)}")


def mean(values: Sequence[float]) -> float:
    """The average."""
    return sum(values) / len(values)


def gain(runs: Runs, model: str, data: str, offload: str, seeds: Sequence[int]) -> float:
    """Throughput over that without offloading, averaged over seeds."""

    def tokens_per_s(name: str) -> float:
        return mean([runs[Job(model, data, name, seed=seed)].tokens_per_s for seed in seeds])

    return tokens_per_s(offload) / tokens_per_s("none")


def paper_rows(runs: Runs, seeds: Sequence[int], ratios: Sequence[float]) -> list[Row]:
    """Throughput of each model and data set, and the best ratio."""
    names = ["none", "any", "all", *(str(ratio) for ratio in ratios)]
    cases = list(adrenaline.THROUGHPUT)
    runs.add(Job(*case, name, seed=seed) for case in cases for name in names for seed in seeds)
    rows = []
    for (model, data), paper in adrenaline.THROUGHPUT.items():
        value = gain(runs, model, data, "any", seeds)
        rows.append(compared(f"{model}, {data}", "throughput, C1 or C2", value, paper))
        value = gain(runs, model, data, "all", seeds)
        rows.append(compared(f"{model}, {data}", "throughput, C1 and C2", value, paper))
    for model, data in cases:
        knee = adrenaline.KNEE[data]
        best = str(max(ratios, key=lambda r: gain(runs, model, data, str(r), seeds)))
        for metric, name in (
            ("ratio that C1 or C2 keeps to", "any"),
            (f"best: asked {best}, kept", best),
        ):
            kept = mean([runs[Job(model, data, name, seed=seed)].offload_ratio for seed in seeds])
            rows.append(compared(f"{model}, {data}", metric, kept, (knee, knee)))
    return rows


def compared(subject: str, metric: str, value: float, paper: adrenaline.Range) -> Row:
    """A prediction beside the nearest of the paper's figures."""
    nearest = min(max(value, paper[0]), paper[1])
    return Row(
        subject=subject,
        metric=metric,
        value=value,
        unit="",
        baseline=PAPER,
        baseline_value=nearest,
        values={SIMULATED: value, PAPER: nearest, "from": paper[0], "to": paper[1]},
    )


def cloudmatrix_rows() -> list[Row]:
    """The rows that were held out."""
    rows = []
    for row in cloudmatrix.PREDICTED:
        subject = f"{row.num_prompt:,} + {row.num_output:,} tokens, batch {row.batch}"
        value = cloudmatrix.predict_ms(row)
        rows.append(compared(subject, "TPOT, ms", value, (row.tpot_ms, row.tpot_ms)))
        rate = row.batch / value * 1e3
        rows.append(compared(subject, "tokens/s", rate, (row.tokens_per_s, row.tokens_per_s)))
    return rows


def load_rows(runs: Runs, seeds: Sequence[int]) -> list[Row]:
    """How TPOT changes at equal rates, from half of what can be served to all of it."""
    model, data = "Llama-2-7B", "OpenThoughts"
    full = mean([runs[Job(model, data, "none", seed=seed)].requests_per_s for seed in seeds])
    jobs = {
        (load, name): [Job(model, data, name, load * full, seed) for seed in seeds]
        for load in LOADS
        for name in ("none", "any")
    }
    runs.add(job for some in jobs.values() for job in some)
    rows = []
    for load in LOADS:
        without, with_ = ([runs[job] for job in jobs[load, n]] for n in ("none", "any"))
        tpot = mean([r.mean_tpot_ms for r in with_]) / mean([r.mean_tpot_ms for r in without]) - 1
        p99 = mean([r.tpot_ms[1] for r in with_]) / mean([r.tpot_ms[1] for r in without]) - 1
        subject = f"{load:.0%} of what can be served"
        ttft = mean([r.ttft_ms[1] for r in with_]) / mean([r.ttft_ms[1] for r in without]) - 1
        for name, value in (("mean TPOT", tpot), ("p99 TPOT", p99), ("p99 TTFT", ttft)):
            rows.append(Row(subject=subject, metric=name, value=100 * value, unit="%"))
    return rows


def shape_rows(runs: Runs) -> list[Row]:
    """Where more or fewer executors serve a decode instance."""
    model, data = "Llama-2-7B", "ShareGPT"

    def job(shape: tuple[int, int], name: str) -> Job:
        return Job(model, data, name, num_prefill=shape[0], num_decode=shape[1])

    runs.add(job(shape, name) for shape in SHAPES for name in SHAPE_RATIOS)
    return [
        Row(
            subject=f"{shape[0]}:{shape[1]}",
            metric=name,
            value=runs[job(shape, name)].tokens_per_s / runs[job(shape, "none")].tokens_per_s,
            unit="x",
        )
        for shape in SHAPES
        for name in SHAPE_RATIOS[1:]
    ]


def relative(machine: Machine, context: int, output: int, rate: float, until_s: float) -> list[Row]:
    """Throughput of one prefill and one decode instance over that without offloading."""
    calls = fixed_lengths(int(rate * until_s) + 1, rate, context, output)
    found = {}
    for name in SHAPE_RATIOS:
        policies = Policies(
            disaggregation=adrenaline.AlwaysPeer(), offload=adrenaline.admission(name)
        )
        share = 0.0 if name == "none" else 0.2
        cluster = Cluster(
            machine, ["prefill", "decode"], policies, share=share, max_output_tokens=output
        )
        found[name] = cluster.run(calls, until_s / 4, until_s).tokens_per_s
    subject = f"{context:,} + {output} tokens"
    return [
        Row(subject=subject, metric=name, value=found[name] / found["none"], unit="x")
        for name in SHAPE_RATIOS[1:]
    ]


def prompt_heavy_rows() -> list[Row]:
    """Prefill has no slack: whatever its executor takes is missing."""
    return [
        row
        for model in adrenaline.MODELS
        for row in relative(adrenaline.machine(model), 3000, 100, 20.0, 120.0)
    ][: len(SHAPE_RATIOS) - 1]


def profile_rows(machine: Machine) -> list[Row]:
    """A profiled machine, more asked of it than it can do."""
    rows = []
    for context in CONTEXTS:
        if context + NUM_OUTPUT > machine.capacity_tokens / 4:
            continue
        step_s = machine.costs.decode_s(16, 16 * context)
        rate = 32 / (NUM_OUTPUT * step_s)
        rows += relative(machine, context, NUM_OUTPUT, rate, 16 * NUM_OUTPUT * step_s)
    return rows


def ratio_plot(runs: Runs, seeds: Sequence[int], ratios: Sequence[float]) -> str:
    """Throughput by ratio, a line for each model and data set."""
    lines: dict[str, list[Point]] = {
        f"{model[8:]}, {data}": [
            (ratio, gain(runs, model, data, str(ratio), seeds)) for ratio in ratios
        ]
        for model, data in adrenaline.THROUGHPUT
    }
    title = "Throughput by how much is offloaded, 1 prefill and 1 decode A100 (simulated)"
    return draw_lines(title, "offloaded : local sequences", "times that without", lines)


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """Predictions beside the paper's figures."""
    table = Table(title=title, title_justify="left")
    for name in ("", "what", SIMULATED, PAPER, "error"):
        table.add_column(name, justify="left" if name in ("", "what") else "right")
    for row in rows:
        low, high = row.values["from"], row.values["to"]
        paper = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        error = (row.ratio or 0) - 1
        color = "red" if abs(error) > MOST_ERROR else "green"
        text = "inside" if error == 0 and low != high else f"{error:+.1%}"
        table.add_row(row.subject, row.metric, f"{row.value:.4g}", paper, f"[{color}]{text}[/]")
    console.print(table)


def print_plain(title: str, rows: Sequence[Row]) -> None:
    """A line for each subject, a column for each metric."""
    metrics = list(dict.fromkeys(row.metric for row in rows))
    table = Table("", *metrics, title=title, title_justify="left")
    for subject in dict.fromkeys(row.subject for row in rows):
        cells = []
        for row in (row for row in rows if row.subject == subject):
            text = f"{row.value:+.0f}%" if row.unit == "%" else f"{row.value:.2f}"
            cells.append(f"[red]{text}[/]" if row.unit == "x" and (row.value or 0) < 1 else text)
        table.add_row(subject, *cells)
    console.print(table)


def print_inputs() -> None:
    """What went into the predictions."""
    table = Table("", "figure", "value", title="What they are made of", title_justify="left")
    for kind, values in (
        ("calibrated", adrenaline.CALIBRATION),
        ("assumed by us", adrenaline.ASSUMED),
    ):
        for name, value in values.items():
            table.add_row(kind, name, str(value))
    layer_us = adrenaline.calibrated().layer_s * 1e6
    table.add_row("follows", "of each layer, explained by neither roof, us", f"{layer_us:.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
