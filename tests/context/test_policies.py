"""Which blocks go, and whether loading is worth it."""

from artesian.context.gate import LoadGate
from artesian.context.policies import LeafFirstLru


def test_nothing_goes_below_the_high_water_mark() -> None:
    order = LeafFirstLru()
    for name in b"abcd":
        order.add(bytes([name]), 10)
    assert order.victims(95, 100) == []
    assert order.victims(96, 100) == [b"a"]
    assert order.victims(115, 100) == [b"a", b"b", b"c"]


def test_what_was_used_stays_and_ends_go_before_beginnings() -> None:
    order = LeafFirstLru()
    for name in b"abcd":
        order.add(bytes([name]), 10)
    order.use([b"b", b"a", b"unknown"])
    assert order.victims(1000, 100) == [b"c", b"d", b"a", b"b"]
    assert order.victims(111, 100, spared=[b"c"]) == [b"d", b"a", b"b"]
    order.forget(b"d")
    order.add(b"c", 10)
    assert order.victims(96, 100) == [b"c"]
    assert len(order) == 3


def test_loading_is_tried_until_something_is_known() -> None:
    gate = LoadGate()
    assert gate.should_load(1, 32)
    gate.observe_load(10, 1.0)
    assert gate.should_load(1, 32)
    gate.observe_prefill(32, 0.2)
    assert gate.should_load(100, 32)


def test_a_slow_disk_is_left_alone_but_looked_at_again() -> None:
    gate = LoadGate()
    gate.observe_load(1, 1.0)
    gate.observe_prefill(1000, 1.0)
    asked = [gate.should_load(5, 32) for _ in range(48)]
    assert sum(asked) == 3
    for _ in range(60):
        gate.observe_load(1, 0.001)
    assert gate.should_load(5, 32)
