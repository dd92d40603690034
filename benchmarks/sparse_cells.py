"""What is measured behind one context of one model: quality, time, answers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from artesian.attention.base import Selector
from artesian.eval.late import LateResult, measure_late
from artesian.eval.score import Reading, TaskResult, run_task
from artesian.eval.session import Session
from artesian.eval.speed import StepTimes, time_steps
from artesian.eval.tasks import TASKS
from artesian.eval.ways import DENSE, Way, label, parse_way

RIVALS: tuple[Selector, ...] = ("top-k", "top-p", "window")
PARTS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Of the weight that progressive attention stops at, and top-p takes by its estimate."""
BUDGETS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
"""Of the context, for those that take a number of tokens."""
GROUP_TOKENS = 32
TIMED_TOKENS = 7

Text = Callable[[LateResult], float]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured of a cell.

    Attributes:
        main: the way of progressive attention that the others are compared with.
    """

    main: str
    num_late: int
    num_passages: int
    num_rounds: int
    num_samples: int
    tasks: Sequence[str]
    batches: Sequence[int]


@dataclass(slots=True)
class Cell:
    """Results behind one length of context.

    Attributes:
        name: of the main way: progressive attention's.
        late: of every way of the sweep.
        matched: for each rival the way that keeps as much weight as the main one, if any does.
        times: by batch, of dense, the main and the matched ways.
    """

    length: int
    name: str
    late: dict[str, LateResult]
    matched: dict[Selector, Way]
    times: dict[int, dict[str, StepTimes]] = field(default_factory=dict)
    tasks: list[TaskResult] = field(default_factory=list)

    @property
    def main(self) -> LateResult:
        """Progressive attention's."""
        return self.late[self.name]

    def curve(self, selector: Selector) -> list[tuple[float, LateResult]]:
        """A selector's knob and what it gave, ascending."""
        found = []
        for name, late in self.late.items():
            way = parse_way(name)
            if way.attention.selector == selector:
                found.append((knob(way), late))
        return sorted(found, key=lambda pair: pair[0])


def sweep(length: int, main: str) -> list[Way]:
    """Dense, `main`, and every selector with several values of its knob."""
    names = [label("progressive", part) for part in PARTS]
    names += [label("top-p", part) for part in PARTS]
    for selector in ("top-k", "window"):
        names += [label(selector, in_groups(part * length)) for part in BUDGETS]
    return [DENSE, *map(parse_way, dict.fromkeys([main, *names]))]


def measure_cell(
    session: Session, length: int, passages: list[list[int]], reading: Reading, effort: Effort
) -> Cell:
    """Everything of one length."""
    late = measure_late(session, sweep(length, effort.main), passages, effort.num_late)
    cell = Cell(length, effort.main, {result.way: result for result in late}, {})
    for selector in RIVALS:
        way = at_equal(cell, selector, kept_mass)
        if way is not None:
            cell.matched[selector] = way
    ways = [DENSE, parse_way(effort.main), *cell.matched.values()]
    # Backwards: the KV of the last passage is still there.
    passages = passages[::-1]
    for result in measure_late(session, ways, passages, effort.num_late):
        cell.late.setdefault(result.way, result)
    timed = passages[-1][session.num_context_tokens :][:TIMED_TOKENS]
    for batch in effort.batches:
        cell.times[batch] = time_steps(
            session, ways, timed, num_sequences=batch, num_rounds=effort.num_rounds
        )
    for name in effort.tasks:
        task = TASKS[name]
        # Those that only have losses ask several questions a context, and need fewer.
        count = effort.num_samples if task.is_exact else -(-effort.num_samples // 3)
        cell.tasks.append(run_task(session, ways, task, reading, count))
    return cell


def at_equal(cell: Cell, selector: Selector, what: Text) -> Way | None:
    """The selector's way that is as good as the main one, by interpolation in its knob.

    None when no value of its knob that was measured is as good. When every one is, the least.
    """
    found = crossing([(value, what(late)) for value, late in cell.curve(selector)], what(cell.main))
    if found is None:
        return None
    is_part = selector in ("top-p", "progressive")
    return parse_way(label(selector, min(found, 1.0) if is_part else in_groups(found)))


def bytes_at_equal(cell: Cell, selector: Selector, what: Text) -> float | None:
    """The bytes of KV that a selector reads where it is as good as the main one; None: never is."""
    curve = [(late.bytes_read, what(late)) for _, late in cell.curve(selector)]
    return crossing(curve, what(cell.main))


def crossing(points: Sequence[tuple[float, float]], level: float) -> float | None:
    """Where a curve that ascends in both reaches a level, linear in the logarithm of x.

    The first point where it is reached for good counts: what is noise before is passed over.
    """
    last = len(points)
    while last > 0 and points[last - 1][1] >= level:
        last -= 1
    if last == len(points):
        return None
    if last == 0:
        return points[0][0]
    (x0, y0), (x1, y1) = points[last - 1], points[last]
    part = (level - y0) / (y1 - y0)
    return math.exp(math.log(x0) + part * (math.log(x1) - math.log(x0)))


def kept_mass(late: LateResult) -> float:
    """Mean part of the attention weight that is kept."""
    return late.kept.mean_mass


def fidelity(late: LateResult) -> float:
    """Minus the divergence from dense: more is better."""
    return -float(late.divergence_nats.mean())


def knob(way: Way) -> float:
    """What a way's selector is turned by."""
    is_part = way.attention.selector in ("progressive", "top-p")
    return way.attention.epsilon if is_part else way.attention.budget_tokens


def in_groups(num_tokens: float) -> int:
    """The nearest number of whole groups, at least two, in tokens."""
    return max(2, round(num_tokens / GROUP_TOKENS)) * GROUP_TOKENS
