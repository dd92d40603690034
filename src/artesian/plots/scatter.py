"""Named points, in families."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from artesian.plots.axes import COLORS, Frame, legend, picture, text

_MARGIN = 0.08


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with what is written beside it."""

    x: float
    y: float
    label: str = ""


def draw_scatter(title: str, x_name: str, y_name: str, marks: Mapping[str, Sequence[Mark]]) -> str:
    """A picture of families of points; those of a family are joined in their order.

    Raises:
        ValueError: there is nothing to draw.
    """
    every = [mark for family in marks.values() for mark in family]
    if not every:
        raise ValueError("there is nothing to draw")
    frame = Frame(*_range([mark.x for mark in every]), *_range([mark.y for mark in every]))
    parts = []
    for number, (name, family) in enumerate(marks.items()):
        color = COLORS[number % len(COLORS)]
        places = [frame.place(mark.x, mark.y) for mark in family]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}"/>')
        for mark, (x, y) in zip(family, places, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>')
            parts.append(text(x + 6, y - 6, mark.label, "start"))
        parts += legend(number, name)
    return picture(title, x_name, y_name, frame, parts)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = _MARGIN * (high - low) or 0.5
    return low - margin, high + margin
