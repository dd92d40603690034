"""Comparing selectors where they are as good as each other."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_where_a_curve_reaches_a_level() -> None:
    from sparse_cells import crossing

    curve = [(10.0, 0.5), (100.0, 0.7), (1000.0, 0.9)]
    assert crossing(curve, 0.8) == pytest.approx(100 * 10**0.5)
    assert crossing(curve, 0.7) == pytest.approx(100)
    assert crossing(curve, 0.4) == 10
    assert crossing(curve, 0.95) is None
    # Noise that reaches it once does not count.
    assert crossing([(1.0, 0.9), (10.0, 0.5), (100.0, 0.9)], 0.9) == pytest.approx(100)


def test_knobs_are_whole_groups() -> None:
    from sparse_cells import in_groups, knob, sweep

    assert [in_groups(n) for n in (1, 70, 80.1, 500)] == [64, 64, 96, 512]
    ways = sweep(2000, "progressive:0.8")
    assert ways[0].is_exact and len({way.name for way in ways}) == len(ways)
    assert all(knob(way) % 32 == 0 for way in ways if way.attention.selector == "top-k")
