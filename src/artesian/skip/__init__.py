"""Skipping the sublayers that change their input least (AdaSkip)."""

from artesian.skip.base import SkipSet
from artesian.skip.calibration import (
    Calibration,
    CalibrationError,
    Loss,
    StepCosts,
    encode_calibration,
    read_calibration,
)
from artesian.skip.online import OnlineExtension
from artesian.skip.similarity import Similarity, hit_rate

__all__ = [
    "Calibration",
    "CalibrationError",
    "Loss",
    "OnlineExtension",
    "Similarity",
    "SkipSet",
    "StepCosts",
    "encode_calibration",
    "hit_rate",
    "read_calibration",
]
