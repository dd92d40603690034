"""Ways by their names, and intervals."""

import pytest

from artesian.attention import SparseAttention
from artesian.eval.ways import DENSE, Way, label, parse_way
from artesian.eval.wilson import wilson_95
from artesian.skip import SkipSet


def test_ways_by_name() -> None:
    assert parse_way("dense") == DENSE
    assert DENSE.is_exact
    assert parse_way("progressive:0.9").attention.epsilon == 0.9
    assert parse_way("top-p:1").attention == SparseAttention(selector="top-p", epsilon=1.0)
    assert parse_way("top-k:1024").attention.budget_tokens == 1024
    assert not Way("x", skip=SkipSet((1,), (1.0,))).is_exact
    for text in ("progressive:0.9", "top-k:1024"):
        way = parse_way(text)
        epsilon = text.startswith("progressive")
        value = way.attention.epsilon if epsilon else way.attention.budget_tokens
        assert label(way.attention.selector, value) == text


def test_ways_that_leave_out() -> None:
    way = parse_way("window:64+skip:2", lambda count: SkipSet((3, 5)[:count], (1.0,) * count))
    assert way.skip.sublayers == (3, 5) and way.attention.budget_tokens == 64
    assert parse_way("dense+skip:0", lambda count: SkipSet()).is_exact
    with pytest.raises(ValueError, match="calibration"):
        parse_way("dense+skip:2")
    with pytest.raises(ValueError, match="number of sublayers"):
        parse_way("dense+skip:two", lambda count: SkipSet())


@pytest.mark.parametrize(
    "text", ["sparse", "top-k:many", "top-k:-3", "top-k:1.5", "window:0", "window"]
)
def test_ways_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"colon|there is no way"):
        parse_way(text)


def test_interval_of_published_values() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I.
    for num_right, num, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        assert wilson_95(num_right, num) == pytest.approx((low, high), abs=1e-4)
    assert wilson_95(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson_95(20, 20)[1] == 1.0
    with pytest.raises(ValueError, match="no part"):
        wilson_95(1, 0)
