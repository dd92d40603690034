"""The context cache: KV that outlives the arena, the worker and the server."""

from artesian.context.base import Compression, Done, Entry, Load, Tier
from artesian.context.cache import ContextCache, WritePolicy
from artesian.context.disk import DiskTier
from artesian.context.host import HostTier
from artesian.context.loader import Onboarding
from artesian.context.preload import PreloadRule

__all__ = [
    "Compression",
    "ContextCache",
    "DiskTier",
    "Done",
    "Entry",
    "HostTier",
    "Load",
    "Onboarding",
    "PreloadRule",
    "Tier",
    "WritePolicy",
]
