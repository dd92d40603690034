"""Ways of choosing the sublayers that are left out."""

from artesian.skip.policies.base import FIRST_LAYER, Selection, alpha_of, num_skipped_of
from artesian.skip.policies.gain_per_cost import GainPerCost
from artesian.skip.policies.most_similar import MostSimilar
from artesian.skip.policies.targets import fewest_for_speed, most_for_loss
from artesian.skip.policies.whole_layers import (
    EarlyExit,
    LeastInfluence,
    SkipDecode,
    UnifiedSkipping,
)

__all__ = [
    "FIRST_LAYER",
    "EarlyExit",
    "GainPerCost",
    "LeastInfluence",
    "MostSimilar",
    "Selection",
    "SkipDecode",
    "UnifiedSkipping",
    "alpha_of",
    "fewest_for_speed",
    "most_for_loss",
    "num_skipped_of",
]
