"""Skipping the sublayers that change their input least (AdaSkip)."""

from artesian.skip.base import SkipSet

__all__ = ["SkipSet"]
