"""`artesian eval long-context`: what attending to less costs, and what it saves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, get_args

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt
from rich.console import Console
from rich.table import Table

from artesian.attention.base import Selector
from artesian.cli.eval_text import read_text
from artesian.cli.options import AsJson, with_settings
from artesian.config import EngineConfig, Settings, SettingsError
from artesian.eval.long_context import LongContextResult, Plan, evaluate, open_session
from artesian.eval.score import TaskResult
from artesian.eval.session import Session
from artesian.eval.tasks import TASKS
from artesian.eval.texts import standard_text
from artesian.eval.ways import parse_way
from artesian.loader import Checkpoint, open_checkpoint
from artesian.machine import num_usable_cpus
from artesian.plots import Mark, draw_scatter
from artesian.skip import SkipSet, read_calibration
from artesian.skip.policies import MostSimilar

_WAYS = ("progressive:0.95", "top-k:1024", "top-p:0.95", "window:1024")
_PLAN = Plan()
_TABLE_WIDTH = 132


@with_settings(EngineConfig)
def long_context(
    settings: Settings,
    text: Annotated[
        Path | None, Parameter(help="Text file; default: the reference of the Python language.")
    ] = None,
    *,
    ways: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True,
            help=f"{', '.join(get_args(Selector))}, with a part of the attention weight or a "
            "number of tokens, such as progressive:0.95 or top-k:1024; +skip:N behind it leaves "
            "out N sublayers, also while the context is read.",
        ),
    ] = _WAYS,
    calibration: Annotated[
        Path | None, Parameter(help="File of artesian calibrate, for ways that leave out.")
    ] = None,
    context_tokens: Annotated[
        PositiveInt, Parameter(help="Length of contexts.")
    ] = _PLAN.context_tokens,
    num_late: Annotated[
        PositiveInt, Parameter(help="Tokens predicted behind each passage of the text.")
    ] = _PLAN.num_late,
    num_passages: Annotated[PositiveInt, Parameter(help="Of the text.")] = _PLAN.num_passages,
    tasks: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, help=f"Of {', '.join(TASKS)}; none: no tasks."),
    ] = tuple(_PLAN.tasks),
    num_samples: Annotated[PositiveInt, Parameter(help="Of each task.")] = _PLAN.num_samples,
    num_rounds: Annotated[
        NonNegativeInt, Parameter(help="Of timing decode steps; 0: none.")
    ] = _PLAN.num_rounds,
    plot: Annotated[Path | None, Parameter(help="SVG file: quality against speed.")] = None,
    as_json: AsJson = False,
) -> int:
    """Compare ways of attending over a long context with dense attention.

    What is read behind the context attends in each way: the end of passages of a text, and
    questions whose answers are hidden in the context (from seeds: they are always the same).
    Accuracies have Wilson's 95% interval. Where dense attention itself gives less than 80% of the
    answers, they would say nothing: there only the loss of the right answers counts.
    """
    config = settings.load(EngineConfig)
    names = check_tasks(tasks)
    plan = Plan(
        context_tokens=context_tokens,
        num_late=num_late,
        num_passages=num_passages,
        tasks=names,
        num_samples=num_samples,
        num_rounds=num_rounds,
    )
    if plot is not None and not num_rounds:
        raise SettingsError("--plot draws quality against speed: --num-rounds must not be 0")
    checkpoint = open_checkpoint(config.model)
    words = standard_text() if text is None else read_text(text)
    try:
        choose = chooser(calibration, checkpoint)
        compared = [parse_way(way, choose) for way in ways]
        result = evaluate(open_room(config, checkpoint, plan), checkpoint, compared, words, plan)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    title = f"{checkpoint.name}, behind {context_tokens:,} tokens"
    if as_json:
        facts = {"model": checkpoint.name, "context_tokens": context_tokens}
        print(json.dumps({**facts, **result.as_dict()}, indent=2))
    else:
        print_result(title, result)
    if plot is not None:
        plot.write_text(draw(title, result))
    return 0


def open_room(config: EngineConfig, checkpoint: Checkpoint, plan: Plan) -> Session:
    """The session of a plan. Raises `ValueError` when the model has no room for it."""
    return open_session(
        checkpoint,
        plan,
        num_threads=config.num_threads or num_usable_cpus(),
        isa=config.isa,
        kv_dtype=None if config.kv_cache_dtype == "auto" else config.kv_cache_dtype,
    )


def check_tasks(names: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks that are asked for. Raises `SettingsError` for one that there is not."""
    if names == ("none",):
        return ()
    if unknown := [name for name in names if name not in TASKS]:
        raise SettingsError(f"there is no task {unknown[0]!r}: choose from {', '.join(TASKS)}")
    return names


def chooser(path: Path | None, checkpoint: Checkpoint) -> Callable[[int], SkipSet] | None:
    """What to leave out, by a calibration. Raises `CalibrationError` (a ValueError)."""
    if path is None:
        return None
    known = read_calibration(path, checkpoint.fingerprint())
    return lambda count: MostSimilar().choose(known, count)


def print_result(title: str, result: LongContextResult) -> None:
    """The result for people."""
    console = Console(soft_wrap=True, highlight=False)
    # Rather lines that a terminal folds than numbers cut short.
    console.width = max(console.width, _TABLE_WIDTH)
    console.print(title, markup=False)
    columns = ["way", "perplexity", "of dense", "divergence, nats", "same token", "read", "MB"]
    columns += ["weight kept", "p05"]
    columns += ["step, ms", "speed"] if result.times else []
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for late in result.late:
        change = late.difference
        cells = [
            late.way,
            f"{late.perplexity.value:.3f}",
            "" if change is None else f"{change.ratio:.4f} ± {change.half_width_nats:.4f}",
            f"{late.divergence_nats.mean():.4f}",
            f"{late.agrees.mean():.1%}",
            f"{late.kept.ratio:.1%}",
            f"{late.bytes_read / 1e6:.1f}",
            f"{late.kept.mean_mass:.3f}",
            f"{late.kept.low_mass:.3f}",
        ]
        if result.times:
            times = result.times[late.way]
            cells += [f"{times.step_s * 1e3:.2f}", f"{result.speed_up(late.way):.2f}"]
        table.add_row(*cells)
    console.print(table)
    if result.tasks:
        console.print(_task_table(result))


def draw(title: str, result: LongContextResult) -> str:
    """Perplexity, relative to dense, against speed, as SVG."""
    marks: dict[str, list[Mark]] = {}
    for way, late in zip(result.ways, result.late, strict=True):
        ratio = 1.0 if late.difference is None else late.difference.ratio
        mark = Mark(result.speed_up(way.name), ratio, way.name)
        marks.setdefault(way.attention.selector, []).append(mark)
    return draw_scatter(title, "decode steps, times as fast as dense", "perplexity / dense", marks)


def _task_table(result: LongContextResult) -> Table:
    table = Table("task", *(way.name for way in result.ways), box=None, padding=(0, 2, 0, 0))
    for task in result.tasks:
        table.add_row(task.task, *(_task_cell(task, way.name) for way in result.ways))
    return table


def _task_cell(task: TaskResult, way: str) -> str:
    score = task.scores[way]
    if not task.passes_gate:
        return f"{score.mean_nats:.3f} nats"
    low, high = score.interval_95
    return f"{score.accuracy:.0%} ({low:.0%} to {high:.0%})"
