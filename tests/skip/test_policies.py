"""What is chosen, from calibrations that are made up."""

from itertools import pairwise

import numpy as np
import pytest

from artesian.skip import (
    Calibration,
    Loss,
    OnlineExtension,
    Similarity,
    SkipSet,
    StepCosts,
    hit_rate,
)
from artesian.skip.costs import speed_up, sublayer_costs
from artesian.skip.policies import (
    EarlyExit,
    GainPerCost,
    LeastInfluence,
    MostSimilar,
    Selection,
    SkipDecode,
    UnifiedSkipping,
    alpha_of,
    fewest_for_speed,
    most_for_loss,
    num_skipped_of,
)

NUM_LAYERS = 8
COSTS = StepCosts(rest_s=2.0, ffn_s=1.0, attention_s=0.5, attention_token_s=0.001)


def calibration(seed: int = 0, losses: tuple[Loss, ...] = ()) -> Calibration:
    rng = np.random.default_rng(seed)
    count = 2 * NUM_LAYERS
    return Calibration(
        model="made up",
        fingerprint="f",
        similarities=tuple(map(float, rng.uniform(0.5, 0.99, count))),
        scales=tuple(map(float, rng.uniform(1, 1.2, count))),
        spreads=(0.0,) * count,
        windows=(0, 100) * (NUM_LAYERS // 2),
        prompt_hashes=("h",),
        num_tokens=1,
        losses=losses,
    )


def layers(skip: SkipSet) -> list[int]:
    """The whole layers that a set has, and nothing else."""
    assert set(skip.sublayers) == {s ^ 1 for s in skip.sublayers}
    return [number // 2 for number in skip.sublayers[::2]]


def test_the_most_similar_go_with_their_scales() -> None:
    known = calibration()
    skip = MostSimilar().choose(known, 5)
    assert len(skip.sublayers) == 5 and not {0, 1} & set(skip.sublayers)
    worst = min(known.similarities[n] for n in skip.sublayers)
    left = set(range(2, 16)) - set(skip.sublayers)
    assert all(known.similarities[n] <= worst for n in left)
    assert skip.scales == tuple(known.scales[n] for n in skip.sublayers)
    assert MostSimilar(has_scales=False).choose(known, 5) == SkipSet(skip.sublayers, (1.0,) * 5)


def test_sets_are_nested() -> None:
    for policy in (MostSimilar(), GainPerCost(COSTS, 1000)):
        sets = [set(policy.choose(calibration(), n).sublayers) for n in range(15)]
        assert all(a < b for a, b in pairwise(sets))


def test_what_costs_more_goes_first_where_it_changes_as_much() -> None:
    known = calibration()
    same = Calibration(
        **{
            **{name: getattr(known, name) for name in known.__struct_fields__},
            "similarities": (0.9,) * 16,
        }
    )
    far = GainPerCost(COSTS, 4000).choose(same, 3)
    assert far.sublayers == (4, 8, 12), "attention of the layers that see all"
    assert all(n % 2 for n in GainPerCost(COSTS, 0).choose(same, 7).sublayers)


def test_whole_layers() -> None:
    known = calibration()
    assert layers(EarlyExit().choose(known, 4)) == [6, 7]
    assert layers(SkipDecode().choose(known, 4)) == [1, 2]
    assert layers(UnifiedSkipping().choose(known, 6)) == [2, 4, 6]
    chosen = layers(LeastInfluence().choose(known, 4))
    pairs = zip(known.similarities[::2], known.similarities[1::2], strict=True)
    product = [attention * ffn for attention, ffn in pairs]
    assert chosen == sorted(sorted(range(1, 8), key=lambda n: -product[n])[:2])


@pytest.mark.parametrize(
    "policy", [MostSimilar(), EarlyExit(), SkipDecode(), UnifiedSkipping(), LeastInfluence()]
)
def test_more_than_there_are_is_refused(policy: Selection) -> None:
    assert policy.choose(calibration(), 0) == SkipSet()
    for count in (-1, 17):
        with pytest.raises(ValueError, match="cannot be left out"):
            policy.choose(calibration(), count)


def test_alpha() -> None:
    assert num_skipped_of(32, 1.0) == 0
    assert num_skipped_of(32, 32 / 28) == 8
    assert alpha_of(32, 8) == pytest.approx(32 / 28)
    with pytest.raises(ValueError, match=r"alpha is 0\.5"):
        num_skipped_of(32, 0.5)


def test_costs() -> None:
    each = sublayer_costs(COSTS, (0, 100), 1000)
    assert each == pytest.approx([1.5, 1.0, 0.6, 1.0])
    skip = SkipSet((2, 3), (1.0, 1.0))
    known = calibration()
    all_of_it = 2 + sum(sublayer_costs(COSTS, known.windows, 1000))
    assert speed_up(known, COSTS, skip, 1000) == pytest.approx(all_of_it / (all_of_it - 1.6))


def test_targets() -> None:
    losses = (Loss(1, 0.01), Loss(2, 0.05), Loss(4, 0.04), Loss(8, 0.3))
    known = calibration(losses=losses)
    assert [most_for_loss(known, nats) for nats in (0, 0.01, 0.045, 0.05, 1)] == [0, 1, 1, 4, 8]
    with pytest.raises(ValueError, match="no losses"):
        most_for_loss(calibration(), 0.1)
    policy = MostSimilar()
    count = fewest_for_speed(policy, known, COSTS, 1000, 1.2)
    assert speed_up(known, COSTS, policy.choose(known, count), 1000) >= 1.2
    assert speed_up(known, COSTS, policy.choose(known, count - 1), 1000) < 1.2
    with pytest.raises(ValueError, match="100 times as fast cannot be had"):
        fewest_for_speed(policy, known, COSTS, 1000, 100)


def test_similarity_is_weighted_by_tokens() -> None:
    similarity = Similarity(2)
    first = np.full((2, 2, 3), 0.5, np.float32)
    first[:, 1, 1:] = np.nan
    similarity.add(first)
    similarity.end_prompt()
    similarity.add(np.full((2, 2, 1), 1.0, np.float32))
    similarity.end_prompt()
    np.testing.assert_allclose(similarity.similarities, [0.625, 0.75])
    np.testing.assert_allclose(similarity.scales, [0.625, 0.75])
    np.testing.assert_allclose(similarity.spreads, [0.25, 0.25])
    assert hit_rate(np.array([3.0, 2, 1]), np.array([3.0, 1, 2]), 2) == 0.5


def test_what_was_not_measured_is_named() -> None:
    similarity = Similarity(3)
    similarity.add(np.full((2, 3, 1), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"sublayers \[0, 1, 2\]"):
        _ = similarity.similarities


def test_a_request_s_own_ffns_are_left_out() -> None:
    """Those above the least similar of the fixed set, with the scales of this request."""
    known = calibration()
    fixed = MostSimilar().choose(known, 4)
    beta = min(known.similarities[n] for n in fixed.sublayers)
    online = OnlineExtension(known, fixed, num_watched=2)
    free = [n for n in range(3, 14, 2) if n not in fixed.sublayers]
    attention = next(n for n in range(2, 16, 2) if n not in fixed.sublayers)
    probe = np.full((2, 16, 1), 0.1, np.float32)
    probe[0, [1, 15, free[0], attention]] = beta + 0.005
    probe[1, free[0]] = 1.5
    probe[:, list(fixed.sublayers)] = np.nan
    online.observe(probe)
    assert online.num_left == 1 and online.extended() == fixed
    probe[1, free[0]] = 1.7
    online.observe(probe)
    assert online.num_left == 0
    extended = online.extended()
    assert set(extended.sublayers) == {*fixed.sublayers, free[0]}
    scales = dict(zip(extended.sublayers, extended.scales, strict=True))
    assert scales[free[0]] == pytest.approx(1.6)
    assert all(scales[n] == known.scales[n] for n in fixed.sublayers)
