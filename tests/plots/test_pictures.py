"""Pictures as SVG."""

import pytest

from artesian.plots import Mark, draw_lines, draw_scatter


def test_lines_are_drawn_with_their_names() -> None:
    picture = draw_lines("a & b", "x", "y", {"first": [(0, 1), (1, 2)], "second": [(0, 0), (1, 1)]})
    assert picture.count("<polyline") == 2
    assert "a &amp; b" in picture and "second" in picture
    assert ">0.5<" in picture and ">1.5<" in picture
    with pytest.raises(ValueError, match="nothing"):
        draw_lines("", "", "", {})


def test_points_are_drawn_with_their_labels() -> None:
    marks = {"one": [Mark(1.0, 1.0, "a<b")], "two": [Mark(2.0, 1.5), Mark(3.0, 1.2, "c")]}
    picture = draw_scatter("title", "x", "y", marks)
    assert picture.count("<circle") == 3
    assert "a&lt;b" in picture and ">two<" in picture
    with pytest.raises(ValueError, match="nothing"):
        draw_scatter("", "", "", {})
    # One point alone has a range, too.
    assert "nan" not in draw_scatter("", "", "", {"one": [Mark(1.0, 1.0)]})
