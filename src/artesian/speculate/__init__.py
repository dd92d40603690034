"""Guessing the next tokens cheaply, and having the model look at the guesses all at once."""

from artesian.speculate.acceptance import Acceptance
from artesian.speculate.adaptive import AdaptiveLength
from artesian.speculate.base import Draft, LengthPolicy, Situation, StepKind, StepTime
from artesian.speculate.fixed import FixedLength

__all__ = [
    "Acceptance",
    "AdaptiveLength",
    "Draft",
    "FixedLength",
    "LengthPolicy",
    "Situation",
    "StepKind",
    "StepTime",
]
