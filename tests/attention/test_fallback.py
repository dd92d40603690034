"""When attention falls back to everything, and what audits say."""

import pytest

from artesian.attention import SparseAttention
from artesian.attention.drift import DriftWatch
from artesian.attention.policies import ByLayer, ByLength, BySaving, Chain, create_fallback

ASKED = SparseAttention(selector="progressive", min_context_tokens=100)


def test_short_contexts_are_dense() -> None:
    policy = ByLength()
    assert policy.choose(ASKED, 99) is None
    assert policy.choose(ASKED, 100) is ASKED


def test_leading_layers_that_read_nearly_all_are_dense_for_a_while() -> None:
    policy = ByLayer(most_kept=0.8, renewal=40)
    for _ in range(16):
        assert policy.choose(ASKED, 500) is ASKED
        policy.observe([0.95, 0.9, 0.3, 0.99])
    chosen = policy.choose(ASKED, 500)
    assert chosen is not None and chosen.dense_layers == 2  # not the last: only leading ones
    for _ in range(24):
        policy.observe([1.0, 1.0, 0.3, 0.99])
    assert policy.choose(ASKED, 500) is ASKED


def test_a_request_keeps_its_own_dense_layers() -> None:
    policy = ByLayer(most_kept=0.8)
    asked = SparseAttention(selector="progressive", dense_layers=3)
    for _ in range(20):
        policy.observe([1.0, 1.0, 0.3, 0.3])
    assert policy.choose(asked, 500) is asked


def test_all_layers_dense_is_dense() -> None:
    policy = ByLayer()
    for _ in range(20):
        policy.observe([0.99, 0.99])
    assert policy.choose(ASKED, 500) is None


def test_small_savings_pause_sparse_attention() -> None:
    policy = BySaving(least_saving=0.1, search=0.05, pause=50)
    for _ in range(16):
        assert policy.choose(ASKED, 200) is ASKED
        policy.observe([0.9, 0.9])
    assert policy.choose(ASKED, 216) is None
    assert policy.choose(ASKED, 265) is None
    assert policy.choose(ASKED, 266) is ASKED
    policy.observe([0.2, 0.2])
    assert policy.choose(ASKED, 267) is ASKED


def test_savings_that_are_large_enough_go_on() -> None:
    policy = BySaving()
    for _ in range(100):
        policy.observe([0.5, 0.6])
    assert policy.choose(ASKED, 200) is ASKED


def test_a_chain_takes_the_first_refusal() -> None:
    chain = Chain([ByLength(), ByLayer(most_kept=0.8)])
    for _ in range(16):
        chain.observe([0.9, 0.1])
    assert chain.choose(ASKED, 50) is None
    chosen = chain.choose(ASKED, 500)
    assert chosen is not None and chosen.dense_layers == 1
    assert isinstance(create_fallback("length"), ByLength)
    assert create_fallback("adaptive").choose(ASKED, 500) is ASKED


@pytest.mark.parametrize(("kept", "is_reported"), [(0.97, False), (0.94, False), (0.9, True)])
def test_drift_is_reported_where_too_little_is_kept(kept: float, is_reported: bool) -> None:
    watch = DriftWatch(tolerance=0.02)
    messages = [watch.observe(0.95, [1.0, 2 * kept - 1.0]) for _ in range(40)]
    found = [message for message in messages if message is not None]
    assert bool(found) == is_reported
    assert len(found) <= 2  # now and then, not each time
    for message in found:
        assert "layer 1" in message and "5.0%" in message


def test_a_single_bad_audit_is_no_drift() -> None:
    watch = DriftWatch()
    kept = [0.97] * 30 + [0.5] + [0.97] * 30
    assert not any(watch.observe(0.95, [weight]) for weight in kept)
