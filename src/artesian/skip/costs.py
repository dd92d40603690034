"""What leaving out sublayers saves, by a calibration's costs."""

from collections.abc import Sequence

from artesian.skip.base import SkipSet
from artesian.skip.calibration import Calibration, StepCosts


def sublayer_costs(costs: StepCosts, windows: Sequence[int], context_tokens: int) -> list[float]:
    """Seconds of each sublayer for a row behind so many tokens; `windows` as in `Calibration`."""
    found = []
    for window in windows:
        seen = min(context_tokens, window) if window else context_tokens
        found += [costs.attention_s + costs.attention_token_s * seen, costs.ffn_s]
    return found


def speed_up(
    calibration: Calibration, costs: StepCosts, skip: SkipSet, context_tokens: int
) -> float:
    """Time of a row with everything computed, over its time with `skip`."""
    each = sublayer_costs(costs, calibration.windows, context_tokens)
    total = costs.rest_s + sum(each)
    return total / (total - sum(each[number] for number in skip.sublayers))
