"""Lines over a ratio as SVG."""

import math
from collections.abc import Callable, Mapping, Sequence

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 720, 420, 64, 24, 48, 190
COLORS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#bab0ac")
Point = tuple[float, float]


def draw(title: str, x_name: str, y_name: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """A picture of lines, each with its name at the right. The y axis begins at 0."""
    points = [point for line in lines.values() for point in line]
    if not points:
        raise ValueError("there is nothing to draw")
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    top = 1.05 * max(y for _, y in points) or 1.0
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> Point:
        part = (x - low) / (high - low) if high > low else 0.5
        return LEFT + part * across, TOP + up * (1 - y / top)

    parts = [_text(LEFT, 15, title, "start"), *_axes(place, low, high, top)]
    parts.append(_text(LEFT + across / 2, HEIGHT - 10, x_name, "middle"))
    parts.append(_text(LEFT, TOP + 10, f" {y_name}", "start"))
    for number, (name, line) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        y = TOP + 14 + 18 * number
        parts.append(
            f'<rect x="{WIDTH - RIGHT + 14}" y="{y - 9}" width="10" height="10" fill="{color}"/>'
        )
        parts.append(_text(WIDTH - RIGHT + 30, y, name, "start"))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )


def _axes(place: Callable[[float, float], Point], low: float, high: float, top: float) -> list[str]:
    parts = []
    for y in _ticks(0, top):
        left, at_y = place(low, y)
        right, _ = place(high, y)
        parts.append(f'<path d="M{left:.1f} {at_y:.1f}H{right:.1f}" stroke="#ddd"/>')
        parts.append(_text(left - 6, at_y + 4, f"{y:.4g}", "end"))
    for x in _ticks(low, high):
        at_x, bottom = place(x, 0)
        parts.append(_text(at_x, bottom + 16, f"{x:.4g}", "middle"))
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of 10, at most seven."""
    span = high - low or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    steps = (power / 10 * factor for factor in (1, 2, 5, 10, 20, 50))
    step = next(step for step in steps if span / step <= 6)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    safe = text.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" xml:space="preserve">{safe}</text>'
    )
