"""The context cache: KV that outlives the arena, the worker and the server."""

from artesian.context.base import Done, Entry, Load, Tier
from artesian.context.cache import ContextCache
from artesian.context.disk import DiskTier
from artesian.context.loader import Onboarding

__all__ = ["ContextCache", "DiskTier", "Done", "Entry", "Load", "Onboarding", "Tier"]
