"""What prefixes cost, and how they are split between computing and loading."""

import random
from pathlib import Path

import numpy as np
import pytest

from artesian.context.cost import Line, LoadCost, LoadPlan, PrefillCost, plan_load
from artesian.context.cost_file import CostFile, Costs
from artesian.engine.engine import LLMEngine
from tests.context.test_context_cache import close, context_of
from tests.context.test_sessions import FIRST, ask
from tests.engine.toy import make_engine

BLOCK = 32


def seconds_to_compute(first: int, num: int) -> float:
    return sum(1e-3 + 2e-7 * (first + i + 0.5) for i in range(num))


def learned() -> tuple[PrefillCost, LoadCost]:
    prefill, load = PrefillCost(), LoadCost()
    for first, num in ((0, 512), (512, 512), (1024, 512), (2048, 200), (4000, 100)):
        prefill.observe(first, num, seconds_to_compute(first, num))
    for num in (1, 10, 40, 200):
        load.observe(num, 0.004 + 0.0005 * num)
    return prefill, load


def test_costs_are_learned_from_what_was_seen() -> None:
    prefill, load = learned()
    for first, num in ((0, 32), (3000, 700), (8000, 100)):
        assert prefill.seconds(first, num) == pytest.approx(seconds_to_compute(first, num), 1e-3)
    assert load.seconds(100) == pytest.approx(0.054, 1e-3)
    assert load.seconds(0) == 0 == PrefillCost().seconds(5, 5)


def test_newer_observations_win() -> None:
    _, load = learned()
    for num in (1, 10, 40, 200) * 30:
        load.observe(num, 0.1 * num)
    assert load.seconds(100) == pytest.approx(10.0, 0.02)


@pytest.mark.parametrize("seed", range(30))
def test_terms_are_the_best_ones_that_are_not_negative(seed: int) -> None:
    rng = random.Random(seed)
    line = Line()
    rows: list[list[float]] = []
    for _ in range(rng.randrange(1, 12)):
        x = rng.random()
        y = rng.uniform(-0.2, 1) + rng.uniform(-0.5, 1) * x
        rows = [[0.95**0.5 * value for value in row] for row in rows] + [[1.0, x, y]]
        line.observe(x, y)
    table = np.array(rows)

    def error(a: float, b: float) -> float:
        return float(((table[:, :2] @ [a, b] - table[:, 2]) ** 2).sum())

    found = error(*line.terms())
    top = 2 * max(1.0, *line.terms())
    grid = [(top * i / 80, top * j / 80) for i in range(81) for j in range(81)]
    assert found <= min(error(a, b) for a, b in grid) + 1e-3


@pytest.mark.parametrize("seed", range(50))
def test_the_split_is_the_best_of_all(seed: int) -> None:
    rng = random.Random(seed)
    prefill, load = PrefillCost(), LoadCost()
    prefill.observe(0, rng.choice([1, 500]), 10 ** rng.uniform(-3, 0))
    prefill.observe(900, 300, 10 ** rng.uniform(-2, 0))
    load.observe(1, 10 ** rng.uniform(-4, 0))
    load.observe(50, 10 ** rng.uniform(-3, 1))
    first, num = rng.choice([0, 320, 3200]), rng.randrange(1, 60)
    plan = plan_load(prefill, load, first, num, BLOCK)
    assert plan.num_computed + plan.num_loaded == num
    times = [max(prefill.seconds(first, k * BLOCK), load.seconds(num - k)) for k in range(num + 1)]
    assert plan.seconds == pytest.approx(min(times))
    assert times[plan.num_computed] == plan.seconds


def test_what_is_not_known_is_tried() -> None:
    prefill, load = learned()
    assert plan_load(prefill, LoadCost(), 0, 7, BLOCK) == LoadPlan(0, 7, 0.0)
    assert plan_load(PrefillCost(), load, 0, 7, BLOCK) == LoadPlan(0, 7, 0.0)


def test_costs_outlive_a_restart(tmp_path: Path) -> None:
    prefill, load = learned()
    file = CostFile(tmp_path, "a model")
    assert file.read() == Costs()
    file.write(Costs(prefill=prefill, load={"disk": load}))
    file.close(5.0)
    again = CostFile(tmp_path, "a model").read()
    assert again.prefill.seconds(3000, 700) == pytest.approx(prefill.seconds(3000, 700))
    assert again.load["disk"].seconds(100) == pytest.approx(load.seconds(100))
    for num in (10, 100) * 3:  # and newer observations count for more
        again.load["disk"].observe(num, 0.1 * num)
    assert again.load["disk"].seconds(50) == pytest.approx(5.0, 0.25)
    assert CostFile(tmp_path, "another model").read() == Costs()
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(b"{")
    assert CostFile(tmp_path, "a model").read() == Costs()
    gone = CostFile(tmp_path / "none", "a model")
    gone.write(Costs())
    gone.close(5.0)


def test_an_engine_begins_with_the_costs_of_the_last_one(tmp_path: Path) -> None:
    def opened() -> LLMEngine:
        engine = make_engine(context_dir=tmp_path)
        context_of(engine).keep_costs(CostFile(tmp_path, "toy"))
        return engine

    engine = opened()
    context_of(engine).observe_prefill(100, 1e-6)
    context_of(engine).shelves[0].gate.observe_load(1, 10.0)
    ask(engine, FIRST)
    close(engine)
    later = opened()
    ask(later, FIRST)  # computing is so much quicker that nothing is loaded
    assert context_of(later).shelves[0].stats.num_loaded_blocks == 0
    close(later)


def test_extremes() -> None:
    prefill, load = learned()
    assert plan_load(prefill, load, 0, 100, BLOCK).num_computed <= 2  # loading is much quicker
    slow = LoadCost()
    slow.observe(1, 50.0)
    slow.observe(100, 80.0)
    assert plan_load(prefill, slow, 0, 100, BLOCK).num_loaded == 0
    even = LoadCost()
    even.observe(10, 10 * seconds_to_compute(0, BLOCK))
    even.observe(100, 100 * seconds_to_compute(0, BLOCK))
    plan = plan_load(prefill, even, 0, 100, BLOCK)
    assert 40 < plan.num_computed < 60
    assert plan.seconds < 0.6 * prefill.seconds(0, 100 * BLOCK)
