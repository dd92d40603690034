"""Artesian beside llama.cpp and OpenVINO GenAI: the same models and prompts, in one run.

    make bench-setup-peers     installs the peers, once
    make bench-engine          measures; ARGS='--models smollm2 --rounds 5' narrows it

Engines take turns within every round, so that a disturbance of the machine meets all of them;
a figure is the median of the rounds, a ratio compares with the best peer of its row.
"""

import argparse
import lzma
import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cases
import report
from engines import MODELS, OURS, ModelSpec, engine_specs, missing_part
from limits import Limits, measure
from machine import ROOT, describe
from peers.client import EngineFailed, EngineProcess
from report import Row
from work import read_work

LOG = ROOT / ".bench" / "engine.log"
TEXTS = (Path("/usr/share/common-licenses/GPL-3"), ROOT / "LICENSE")
WINDOW_TOKENS = 512
MAX_WINDOWS = 16
# A peer whose perplexity is higher than this much of ours pays for its speed with accuracy.
SIMILAR_PERPLEXITY = 1.02
# Rounding moves perplexity both ways by about as much.
PERPLEXITY_TARGET = 1.002

console = report.make_console()
Measured = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [model.name for model in MODELS]
    parser.add_argument("--models", nargs="+", default=names, choices=names)
    parser.add_argument("--engines", nargs="+", help="only labels that contain one of these")
    parser.add_argument("--metrics", nargs="+", help="only metrics that contain one of these")
    parser.add_argument("--rounds", type=int, default=3, help="of every figure (default 3)")
    parser.add_argument("--text", type=Path, help="text for perplexity, plain or .xz")
    options = parser.parse_args()
    LOG.parent.mkdir(exist_ok=True)
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    if machine.load_average > 0.5:
        console.print("[yellow]other work runs on this machine: trust ratios, not values[/]")
    rows: list[Row] = []
    extra: dict[str, Any] = {"num_threads": cases.NUM_THREADS, "rounds": options.rounds}
    for model in MODELS:
        path = model.find() if model.name in options.models else None
        if path is None:
            if model.name in options.models:
                console.print(f"skipping {model.title}: not installed ({model.install})")
            continue
        run = ModelRun(model, path, options)
        rows += run.rows()
        extra[model.name] = {"limits": run.limits.as_dict(), "engines": run.notes}
    path = report.write("engine", rows, machine, extra)
    console.print(f"written to {path}")


class ModelRun:
    """All rows of one model."""

    def __init__(self, model: ModelSpec, path: Path, options: argparse.Namespace) -> None:
        self.model = model
        self.notes: dict[str, Any] = {}
        self._options = options
        self._work = read_work(path)
        self.limits = self._measure_limits()
        self._accurate: set[str] = set()
        self._specs = []
        for spec in engine_specs(model, path):
            if not _matches(spec.label, options.engines):
                continue
            if missing := missing_part(spec):
                console.print(f"[yellow]skipping {missing}[/]")
            else:
                self._specs.append(spec)

    def rows(self) -> list[Row]:
        """Measures, prints the table and returns its rows."""
        console.rule(self.model.title)
        measured: dict[str, Measured] = {}
        for shape in (cases.SINGLE, cases.BATCH):
            measured |= self._run_shape(shape)
        if _matches("start-up", self._options.metrics):
            measured["start-up"] = self._start_up()
        self.limits = self.limits.best_with(self._measure_limits())
        self._accurate = _accurate_peers(measured.get("perplexity", {}))
        rows = [self._row(case, measured.get(case.metric, {})) for case in self._cases()]
        rows += self._other_rows(measured)
        columns = [spec.label for spec in self._specs]
        title = f"{self.model.title}, median of {self._options.rounds}"
        report.print_table(title, rows, columns, console)
        console.print("ratio: to the best peer; ratio*: to the best whose perplexity is like ours")
        console.print(self.limits.describe())
        for label, note in self.notes.items():
            console.print(
                f"{label}: {note['name']} {note['version']}; weights {note['weights']}; "
                f"computes in {note['compute']}; KV {note['kv']}"
            )
        return rows

    def _cases(self) -> list[cases.Case]:
        return [case for case in cases.cases() if _matches(case.metric, self._options.metrics)]

    def _run_shape(self, shape: tuple[int, int]) -> dict[str, Measured]:
        """Every case of one shape, and perplexity beside the single one."""
        todo = [case for case in self._cases() if case.shape == shape]
        with_text = shape == cases.SINGLE and _matches("perplexity", self._options.metrics)
        if not todo and not with_text:
            return {}
        measured: dict[str, Measured] = {}
        with self._loaded(shape) as engines:
            for case in todo:
                console.print(f"  {case.metric}", end=" ")
                measured[case.metric] = self._run_case(case, engines)
                console.print()
            if with_text:
                measured["perplexity"] = self._perplexity(engines)
        return measured

    def _run_case(self, case: cases.Case, engines: list[EngineProcess]) -> Measured:
        found: Measured = {}
        for number in range(self._options.rounds):
            seed = f"{case.metric} {number}"
            for engine in engines:
                _record(found, engine.spec.label, partial(case.run, engine, seed))
            console.print(".", end="")
        return found

    @contextmanager
    def _loaded(self, shape: tuple[int, int]) -> Iterator[list[EngineProcess]]:
        """Every engine, loaded and warm; one that fails is left out."""
        with ExitStack() as stack:
            engines = []
            for spec in self._specs:
                engine = EngineProcess(spec, LOG)
                stack.callback(engine.close)
                try:
                    arguments = (str(spec.model), cases.NUM_THREADS, *shape)
                    self.notes[spec.label] = engine.call("load", *arguments)
                    cases.warm_up(engine)
                    engines.append(engine)
                except EngineFailed as error:
                    console.print(f"[red]{error}[/]")
            yield engines

    def _start_up(self) -> Measured:
        console.print("  start-up", end=" ")
        found: Measured = {}
        for _ in range(self._options.rounds):
            for spec in self._specs:
                _record(found, spec.label, partial(cases.start_up_s, spec, LOG))
            console.print(".", end="")
        console.print()
        return found

    def _perplexity(self, engines: list[EngineProcess]) -> Measured:
        windows = self._windows(engines)
        console.print(f"  perplexity of {len(windows)} windows")
        found: Measured = {}
        for engine in engines if windows else []:
            _record(found, engine.spec.label, partial(_perplexity, engine, windows))
        return found

    def _windows(self, engines: list[EngineProcess]) -> list[list[int]]:
        """The text in windows of tokens, each begun as the model wants it."""
        text = _read_text(self._options.text)
        for engine in engines:
            try:
                begin = engine.call("tokenize", "")
                body = engine.call("tokenize", text)[len(begin) :]
            except EngineFailed:
                continue
            size = WINDOW_TOKENS - len(begin)
            starts = range(0, len(body) - size, size)
            return [begin + body[start : start + size] for start in starts][:MAX_WINDOWS]
        console.print("[yellow]no engine tokenizes: no perplexity[/]")
        return []

    def _row(self, case: cases.Case, found: Measured) -> Row:
        values = {label: statistics.median(rounds) for label, rounds in found.items()}
        share, limit = None, ""
        if case.floor_s is not None and OURS in values:
            floor_s, limit = case.floor_s(self._work, self.limits)
            share = floor_s * values[OURS]
        return self._compared(
            case.metric, case.unit, case.better, case.target, found, share=share, limit=limit
        )

    def _other_rows(self, measured: dict[str, Measured]) -> list[Row]:
        rows = []
        if "start-up" in measured:
            name = "start-up to first token"
            rows.append(self._compared(name, "s", "less", 0.5, measured["start-up"]))
        if measured.get("perplexity"):
            found = measured["perplexity"]
            rows.append(self._compared("perplexity", "", "less", PERPLEXITY_TARGET, found))
        return rows

    def _compared(
        self, metric: str, unit: str, better: Any, target: float, found: Measured, **limit: Any
    ) -> Row:
        values = {label: statistics.median(rounds) for label, rounds in found.items()}
        peers = {label: value for label, value in values.items() if label != OURS}
        baseline = report.best(peers, better)
        accurate = {label: value for label, value in peers.items() if label in self._accurate}
        return Row(
            subject=self.model.title,
            metric=metric,
            value=values.get(OURS),
            unit=unit,
            baseline=baseline,
            baseline_value=peers.get(baseline) if baseline else None,
            better=better,
            target=target,
            values=values,
            accurate_baseline=report.best(accurate, better),
            spread={label: (min(rounds), max(rounds)) for label, rounds in found.items()},
            **limit,
        )

    def _measure_limits(self) -> Limits:
        return measure(cases.NUM_THREADS, [self._work.weight_bytes])


def _accurate_peers(perplexity: Measured) -> set[str]:
    """The peers whose perplexity is like ours or better; none when ours is unknown."""
    if OURS not in perplexity:
        return set()
    bound = SIMILAR_PERPLEXITY * perplexity[OURS][0]
    return {label for label, rounds in perplexity.items() if label != OURS and rounds[0] <= bound}


def _perplexity(engine: EngineProcess, windows: list[list[int]]) -> float:
    return math.exp(statistics.fmean(engine.call("nll", windows)))


def _record(found: Measured, label: str, run: Callable[[], float]) -> None:
    """One figure of one engine; a failure is told and leaves it out."""
    try:
        found.setdefault(label, []).append(run())
    except EngineFailed as error:
        console.print(f"\n[red]{error}[/]")
        if not found[label]:
            del found[label]


def _matches(name: str, wanted: list[str] | None) -> bool:
    return wanted is None or any(part.lower() in name.lower() for part in wanted)


def _read_text(path: Path | None) -> str:
    """The given text, or one that a Debian system or this repository has."""
    path = path or next(candidate for candidate in TEXTS if candidate.exists())
    data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    return data.decode("utf-8", errors="replace")


if __name__ == "__main__":
    main()
