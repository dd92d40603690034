"""Pictures as SVG text, without a library."""

from artesian.plots.axes import Point
from artesian.plots.lines import draw_lines
from artesian.plots.scatter import Mark, draw_scatter

__all__ = ["Mark", "Point", "draw_lines", "draw_scatter"]
