"""What the benchmark of sparse attention reports of what it measured."""

import math
from collections.abc import Iterator
from typing import Literal

from artesian.eval.late import LateResult
from artesian.eval.ways import DENSE
from limits import Limits
from report import Row, best
from sparse_cells import RIVALS, Cell, bytes_at_equal, fidelity, kept_mass
from work import Work

OURS = "progressive"
COLUMNS = ["dense", OURS, *RIVALS]
# At the longest context of SmolLM2: of attention, and of the whole step by batch.
ATTENTION_TARGET = 2.5
STEP_TARGETS = {1: 1.6, 8: 2.0}
PERPLEXITY_TARGET = 1.01
TOP_K_TARGET = 1 / 2.4
DENSE_TARGET = 0.8


def cell_rows(model: str, cell: Cell, work: Work, limits: Limits, is_target: bool) -> list[Row]:
    """All rows of a cell; `is_target`: whether the targets are of this one."""
    subject = f"{model}, {cell.length:,} tokens"
    return [
        *_speed_rows(subject, cell, work, limits, is_target),
        *_quality_rows(subject, cell, is_target),
        *_equal_rows(subject, cell),
        *_task_rows(subject, cell),
    ]


def _speed_rows(
    subject: str, cell: Cell, work: Work, limits: Limits, is_target: bool
) -> Iterator[Row]:
    names = _names(cell)
    for batch, times in cell.times.items():
        attention = {column: 1 / times[way].attention for column, way in names.items()}
        steps = {column: batch / times[way].step_s for column, way in names.items()}
        kv_bytes = work.decode_bytes(cell.length, batch) - work.weight_bytes
        share = kv_bytes * attention["dense"] / limits.read_bytes_per_s(kv_bytes)
        yield Row(
            subject=subject,
            metric=f"dense attention, batch {batch}",
            value=kv_bytes * attention["dense"] / 1e9,
            unit="GB/s",
            baseline="read bandwidth",
            baseline_value=limits.read_bytes_per_s(kv_bytes) / 1e9,
            target=DENSE_TARGET,
            values={"dense": kv_bytes * attention["dense"] / 1e9},
            share=share,
            limit="bandwidth",
        )
        target = ATTENTION_TARGET if is_target and batch == 1 else None
        yield _against_dense(subject, f"attention, batch {batch}", "steps/s", attention, target)
        target = STEP_TARGETS.get(batch) if is_target else None
        yield _against_dense(subject, f"decode, batch {batch}", "tokens/s", steps, target)


def _quality_rows(subject: str, cell: Cell, is_target: bool) -> Iterator[Row]:
    """The rivals are those that keep as much weight."""
    late = _late(cell)
    ratios = {c: 1.0 if r.difference is None else r.difference.ratio for c, r in late.items()}
    yield Row(
        subject=subject,
        metric="perplexity of late positions / dense's",
        value=ratios[OURS],
        unit="",
        baseline="dense",
        baseline_value=1.0,
        better="less",
        target=PERPLEXITY_TARGET if is_target else None,
        values=ratios,
        spread={c: _interval(r) for c, r in late.items() if r.difference is not None},
    )
    for metric, unit, values in (
        ("divergence from dense", "mnats", {c: -1e3 * fidelity(r) for c, r in late.items()}),
        ("same likeliest token", "%", {c: 1e2 * r.agrees.mean() for c, r in late.items()}),
        ("groups kept", "%", {c: 1e2 * r.kept.ratio for c, r in late.items()}),
        ("weight kept, mean", "%", {c: 1e2 * r.kept.mean_mass for c, r in late.items()}),
        ("weight kept, p05", "%", {c: 1e2 * r.kept.low_mass for c, r in late.items()}),
        ("KV read for a token", "MB", {c: r.bytes_read / 1e6 for c, r in late.items()}),
    ):
        yield Row(subject=subject, metric=metric, value=values[OURS], unit=unit, values=values)


def _equal_rows(subject: str, cell: Cell) -> Iterator[Row]:
    """KV that is read where the others are as good, by interpolation between their budgets."""
    mine = cell.main.bytes_read / 1e6
    for title, what in (("weight kept", kept_mass), ("divergence", fidelity)):
        values = {OURS: mine}
        for selector in RIVALS:
            found = bytes_at_equal(cell, selector, what)
            if found is not None:
                values[selector] = found / 1e6
        rivals = {name: value for name, value in values.items() if name != OURS}
        baseline = "top-k" if "top-k" in rivals else best(rivals, "less")
        yield Row(
            subject=subject,
            metric=f"KV read for a token at equal {title}",
            value=mine,
            unit="MB",
            baseline=baseline,
            baseline_value=None if baseline is None else rivals[baseline],
            better="less",
            target=TOP_K_TARGET if what is fidelity else None,
            values=values,
        )


def _task_rows(subject: str, cell: Cell) -> Iterator[Row]:
    names = _names(cell)
    for task in cell.tasks:
        scores = {column: task.scores[way] for column, way in names.items()}
        if task.passes_gate:
            low = scores["dense"].interval_95[0]
            values = {column: 1e2 * score.accuracy for column, score in scores.items()}
            num = len(scores["dense"].is_right)
            metric, unit = f"{task.task}, {num} answers", "%"
            spread = {
                column: (1e2 * score.interval_95[0], 1e2 * score.interval_95[1])
                for column, score in scores.items()
            }
            baseline_value, better, target = 1e2 * low, _MORE, 1.0
        else:
            values = {column: score.mean_nats for column, score in scores.items()}
            metric, unit, spread = f"{task.task}, loss of the answer", "nats", {}
            baseline_value, better, target = values["dense"], _LESS, None
        yield Row(
            subject=subject,
            metric=metric,
            value=values[OURS],
            unit=unit,
            baseline="dense's interval" if task.passes_gate else "dense",
            baseline_value=baseline_value,
            better=better,
            target=target,
            values=values,
            spread=spread,
        )


_MORE: Literal["more", "less"] = "more"
_LESS: Literal["more", "less"] = "less"


def _against_dense(
    subject: str, metric: str, unit: str, values: dict[str, float], target: float | None
) -> Row:
    return Row(
        subject=subject,
        metric=metric,
        value=values[OURS],
        unit=unit,
        baseline="dense",
        baseline_value=values["dense"],
        target=target,
        values=values,
    )


def _names(cell: Cell) -> dict[str, str]:
    """The way in each column."""
    matched = {str(selector): way.name for selector, way in cell.matched.items()}
    return {"dense": DENSE.name, OURS: cell.name, **matched}


def _late(cell: Cell) -> dict[str, LateResult]:
    return {column: cell.late[way] for column, way in _names(cell).items()}


def _interval(late: LateResult) -> tuple[float, float]:
    assert late.difference is not None
    mean, half = late.difference.mean_nats, late.difference.half_width_nats
    return math.exp(mean - half), math.exp(mean + half)
