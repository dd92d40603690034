"""Checks whether this machine is ready to serve."""

from artesian.doctor.base import Finding, Status
from artesian.doctor.checks import examine

__all__ = ["Finding", "Status", "examine"]
