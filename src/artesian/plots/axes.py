"""What pictures have in common: the frame, its ticks, its colours."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 720, 420, 64, 24, 48, 190
COLORS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#bab0ac")
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Frame:
    """The ranges of both axes."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def place(self, x: float, y: float) -> Point:
        """Where a point is drawn."""
        across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        part_x = _part(x, self.low_x, self.high_x)
        return LEFT + part_x * across, TOP + up * (1 - _part(y, self.low_y, self.high_y))


def picture(title: str, x_name: str, y_name: str, frame: Frame, parts: Sequence[str]) -> str:
    """The SVG of what is drawn in a frame."""
    across = WIDTH - LEFT - RIGHT
    whole = [
        text(LEFT, 15, title, "start"),
        *_axes(frame.place, frame),
        text(LEFT + across / 2, HEIGHT - 10, x_name, "middle"),
        text(LEFT, TOP + 10, f" {y_name}", "start"),
        *parts,
    ]
    body = "\n".join(whole)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )


def legend(number: int, name: str) -> list[str]:
    """A line of the legend at the right."""
    y = TOP + 14 + 18 * number
    color = COLORS[number % len(COLORS)]
    box = f'<rect x="{WIDTH - RIGHT + 14}" y="{y - 9}" width="10" height="10" fill="{color}"/>'
    return [box, text(WIDTH - RIGHT + 30, y, name, "start")]


def text(x: float, y: float, words: str, anchor: str) -> str:
    """Words at a place."""
    safe = words.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" xml:space="preserve">{safe}</text>'
    )


def _part(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _axes(place: Callable[[float, float], Point], frame: Frame) -> list[str]:
    parts = []
    for y in _ticks(frame.low_y, frame.high_y):
        left, at_y = place(frame.low_x, y)
        right, _ = place(frame.high_x, y)
        parts.append(f'<path d="M{left:.1f} {at_y:.1f}H{right:.1f}" stroke="#ddd"/>')
        parts.append(text(left - 6, at_y + 4, f"{y:.4g}", "end"))
    for x in _ticks(frame.low_x, frame.high_x):
        at_x, bottom = place(x, frame.low_y)
        parts.append(text(at_x, bottom + 16, f"{x:.4g}", "middle"))
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of 10, at most seven."""
    span = high - low or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    steps = (power / 10 * factor for factor in (1, 2, 5, 10, 20, 50))
    step = next(step for step in steps if span / step <= 6)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]
