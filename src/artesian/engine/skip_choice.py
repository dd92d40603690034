"""Which sublayers an engine's requests may leave out, and how many they do."""

from functools import cache, partial

from artesian.config.engine import EngineConfig
from artesian.engine.approximation import SkipChoice
from artesian.skip import Calibration, OnlineExtension, StepCosts, read_calibration
from artesian.skip.policies import (
    GainPerCost,
    MostSimilar,
    Selection,
    fewest_for_speed,
    most_for_loss,
    num_skipped_of,
)

_CONTEXT_TOKENS = 4096
"""Behind so many tokens sublayers are weighed by the time they take."""


def open_skips(config: EngineConfig, fingerprint: str) -> SkipChoice | None:
    """The sublayers that requests may leave out; None without a calibration.

    Raises:
        OSError, CalibrationError: it cannot be read, or is another model's.
        ValueError: what `config` wants cannot be had, or needs what the calibration lacks.
    """
    if config.skip is None:
        return None
    calibration = read_calibration(config.skip, fingerprint)
    similar = MostSimilar()
    selection: Selection = similar
    if config.skip_selection == "gain-per-cost":
        selection = GainPerCost(_times(config, calibration), _CONTEXT_TOKENS)
    most = len(similar.order(calibration))
    default = _default(config, calibration, selection)
    if default > most:
        raise ValueError(f"num_skipped is {default}: at most {most} can be left out")
    watched = config.skip_watched_tokens
    return SkipChoice(
        most,
        default,
        cache(partial(selection.choose, calibration)),
        partial(OnlineExtension, calibration, num_watched=watched) if watched else None,
        watched,
        len(calibration.similarities),
    )


def _default(config: EngineConfig, calibration: Calibration, selection: Selection) -> int:
    """How many sublayers a request leaves out that does not say."""
    if config.skip_alpha is not None:
        return num_skipped_of(calibration.num_layers, config.skip_alpha)
    if config.skip_loss_nats is not None:
        return most_for_loss(calibration, config.skip_loss_nats)
    if config.skip_speed_up is not None:
        costs = _times(config, calibration)
        return fewest_for_speed(
            selection, calibration, costs, _CONTEXT_TOKENS, config.skip_speed_up
        )
    return config.num_skipped


def _times(config: EngineConfig, calibration: Calibration) -> StepCosts:
    if calibration.decode is None:
        raise ValueError(f"{config.skip} has no times: run artesian calibrate again")
    return calibration.decode
