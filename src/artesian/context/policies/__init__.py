"""Which blocks of a tier go first, and which are brought up: policies without I/O and clock."""

from artesian.context.policies.base import EvictionPolicy, Rank
from artesian.context.policies.leaf_first_lru import LeafFirstLru

__all__ = ["EvictionPolicy", "LeafFirstLru", "Rank"]
