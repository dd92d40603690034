"""Lines over a ratio."""

from collections.abc import Mapping, Sequence

from artesian.plots.axes import COLORS, Frame, Point, legend, picture


def draw_lines(title: str, x_name: str, y_name: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """A picture of lines, each with its name at the right. The y axis begins at 0.

    Raises:
        ValueError: there is nothing to draw.
    """
    points = [point for line in lines.values() for point in line]
    if not points:
        raise ValueError("there is nothing to draw")
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    frame = Frame(low, high, 0.0, 1.05 * max(y for _, y in points) or 1.0)
    parts = []
    for number, (name, line) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (frame.place(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += legend(number, name)
    return picture(title, x_name, y_name, frame, parts)
