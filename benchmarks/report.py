"""How every benchmark reports: rows with a baseline and a target, as a table and as JSON."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from machine import Machine

COMPARISONS = ("ratio", "ratio*", "target", "met")
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured figure of ours beside the best of the others.

    Attributes:
        subject: what was measured, such as a model.
        value: median over the rounds; None when it could not be measured.
        baseline: who is compared with; None when nobody else could do it.
        better: whether more or less is good: the target is a lower or an upper bound of `ratio`.
        target: bound of value / baseline_value; None when the row only informs.
        values: everyone's median, ours included.
        spread: everyone's lowest and highest round.
        accurate_baseline: the best of those about as accurate as ours, where that is known.
        share: part of the machine's limit that ours reaches, 0 to 1; `limit` names the limit.
    """

    subject: str
    metric: str
    value: float | None
    unit: str
    baseline: str | None = None
    baseline_value: float | None = None
    better: Literal["more", "less"] = "more"
    target: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)
    accurate_baseline: str | None = None
    share: float | None = None
    limit: str = ""

    @property
    def ratio(self) -> float | None:
        """value / baseline_value, whatever is better."""
        if self.value is None or not self.baseline_value:
            return None
        return self.value / self.baseline_value

    @property
    def accurate_ratio(self) -> float | None:
        """value / that of `accurate_baseline`."""
        if self.value is None or self.accurate_baseline is None:
            return None
        return self.value / self.values[self.accurate_baseline]

    @property
    def met(self) -> bool | None:
        """Whether the target holds; None when there is nothing to compare."""
        if self.ratio is None or self.target is None:
            return None
        return self.ratio >= self.target if self.better == "more" else self.ratio <= self.target

    def as_dict(self) -> dict[str, object]:
        """For JSON, with what follows from the fields."""
        ratios = {"ratio": self.ratio, "accurate_ratio": self.accurate_ratio}
        return {**asdict(self), **ratios, "met": self.met}


def best(values: dict[str, float], better: Literal["more", "less"]) -> str | None:
    """The name with the best value, None of none."""
    if not values:
        return None
    pick = max if better == "more" else min
    return pick(values, key=lambda name: values[name])


def make_console() -> Console:
    """As wide as the terminal, or wide enough for a table in a file."""
    return Console() if sys.stdout.isatty() else Console(width=160)


def print_table(title: str, rows: list[Row], columns: list[str], console: Console) -> None:
    """One line a row; `columns` are the names whose values are shown, ours first.

    `ratio*` is `accurate_ratio`.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    compares = any(row.target is not None for row in rows)
    for name in [*columns, *(COMPARISONS if compares else []), "of the limit"]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            f"{row.metric}, {row.unit}" if row.unit else row.metric,
            *(_cell(row, name) for name in columns),
            *(_comparison(row) if compares else []),
            "" if row.share is None else f"{row.share:.0%} {row.limit}",
        )
    console.print(table)


def write(
    name: str,
    rows: list[Row],
    machine: Machine,
    extra: dict[str, object] | None = None,
    *,
    adds: bool = False,
) -> Path:
    """Writes benchmarks/results/NAME.json and returns its path.

    With `adds`, what an earlier run has measured and this one has not stays, with its date.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    kept = _earlier(path, {row.metric for row in rows}) if adds else []
    content = {
        "benchmark": name,
        "date": machine.date,
        "machine": machine.as_dict(),
        **(extra or {}),
        "rows": kept + [row.as_dict() for row in rows],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def _earlier(path: Path, measured: set[str]) -> list[dict[str, object]]:
    """Rows of a file that are about other things, each with the date of its run."""
    if not path.is_file():
        return []
    content = json.loads(path.read_text())
    return [
        {"date": content["date"], **row} for row in content["rows"] if row["metric"] not in measured
    ]


def _comparison(row: Row) -> list[str]:
    sign = "≥" if row.better == "more" else "≤"
    return [
        "" if row.ratio is None else f"{row.ratio:.2f}",
        "" if row.accurate_ratio is None else f"{row.accurate_ratio:.2f}",
        "" if row.target is None else f"{sign} {row.target:g}",
        {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[row.met],
    ]


def _cell(row: Row, name: str) -> str:
    value = row.values.get(name)
    if value is None:
        return "-"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    text = f"{value:.{digits}f}"
    return f"[bold]{text}[/]" if name == row.baseline else text
