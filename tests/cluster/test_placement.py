"""The policies of the cluster as an engine asks them."""

from artesian.cluster.placement import AdmittedOffload, ConditionalPlacement
from artesian.cluster.policies import FixedOffload, LoadAwareOffload, OffloadLimits
from artesian.engine.landings import DecodeLoad


def test_at_first_long_prompts_go_and_short_ones_stay() -> None:
    placement = ConditionalPlacement()
    assert placement.is_away(0, 2_000, 0)
    assert not placement.is_away(0, 20, 0)


def test_what_would_take_no_time_here_stays() -> None:
    placement = ConditionalPlacement()
    placement.observe(0, 1_000, 0.01)
    assert not placement.is_away(0, 100, 0)
    assert placement.is_away(0, 4_000, 8)


def test_more_running_sequences_send_more_away() -> None:
    placement = ConditionalPlacement()
    placement.observe(0, 1_000, 0.05)
    lengths = range(64, 2_000, 8)
    few = [n for n in lengths if placement.is_away(0, n, 1)]
    many = [n for n in lengths if placement.is_away(0, n, 16)]
    assert min(many) < min(few)


def test_patience_grows_with_what_is_to_be_computed() -> None:
    placement = ConditionalPlacement()
    placement.observe(0, 100, 1.0)
    assert placement.patience_s(0, 1_000) > placement.patience_s(0, 100) + 10
    assert placement.patience_s(0, 1_000) >= 100


def test_offload_is_asked_with_what_decodes_here_and_there() -> None:
    rule = AdmittedOffload(FixedOffload(0.5), OffloadLimits(ratio=1.0))
    assert not rule.is_remote(100, 200, DecodeLoad(1, 100, []))
    assert rule.is_remote(100, 200, DecodeLoad(2, 200, []))
    assert not rule.is_remote(100, 200, DecodeLoad(2, 200, [(50, 60)]))


def test_offload_stays_within_the_local_tokens() -> None:
    rule = AdmittedOffload(LoadAwareOffload(), OffloadLimits(ratio=1.0))
    assert rule.is_remote(100, 200, DecodeLoad(1, 200, []))
    assert not rule.is_remote(100, 200, DecodeLoad(1, 200, [(150, 250)]))
    assert not rule.is_remote(100, 200, DecodeLoad(0, 0, []))


def test_what_nothing_hides_any_more_comes_home() -> None:
    rule = AdmittedOffload(LoadAwareOffload(), OffloadLimits(ratio=1.0))
    assert rule.call_back(DecodeLoad(2, 400, [(100, 200), (120, 200)])) == []
    called = rule.call_back(DecodeLoad(1, 100, [(100, 200), (120, 200)]))
    assert len(called) == 1
    assert called[0] in (0, 1)
    assert sorted(rule.call_back(DecodeLoad(0, 0, [(100, 200)]))) == [0]
