"""How many sublayers to leave out for a wanted quality, or a wanted time."""

from artesian.skip.calibration import Calibration, StepCosts
from artesian.skip.costs import speed_up
from artesian.skip.policies.base import Selection


def most_for_loss(calibration: Calibration, nats: float) -> int:
    """The most sublayers whose measured extra loss, and that of all fewer, is at most `nats` a
    token.

    Raises `ValueError` for a calibration without losses.
    """
    if not calibration.losses:
        raise ValueError("this calibration has no losses: make it anew, with prompts held out")
    most = 0
    for loss in calibration.losses:
        if loss.nats > nats:
            break
        most = loss.num_skipped
    return most


def fewest_for_speed(
    selection: Selection,
    calibration: Calibration,
    costs: StepCosts,
    context_tokens: int,
    wanted: float,
) -> int:
    """The fewest sublayers with which a row behind `context_tokens` is `wanted` times as fast.

    Raises `ValueError` where none of what may be left out is enough.
    """
    count = 0
    while True:
        skip = selection.choose(calibration, count)
        reached = speed_up(calibration, costs, skip, context_tokens)
        if reached >= wanted:
            return count
        count += 1
        if count > 2 * calibration.num_layers - 2:
            raise ValueError(
                f"{wanted:g} times as fast cannot be had behind {context_tokens} tokens: "
                f"{reached:.2f} at most"
            )
