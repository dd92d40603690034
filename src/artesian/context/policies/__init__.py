"""Which blocks of a tier go first, and which are brought up: policies without I/O and clock."""

from artesian.context.policies.base import EvictionPolicy, Rank
from artesian.context.policies.expiry import Expiry
from artesian.context.policies.fifo import Fifo
from artesian.context.policies.leaf_first_lru import LeafFirstLru
from artesian.context.policies.lru import Lru
from artesian.context.policies.pins import Pins
from artesian.context.policies.prefetch import LookAheadPrefetch
from artesian.context.policies.queue_aware import QueueAware
from artesian.context.policies.quotas import TenantQuotas
from artesian.context.policies.regret import RegretChooser
from artesian.context.policies.truncation import Truncation

__all__ = [
    "EvictionPolicy",
    "Expiry",
    "Fifo",
    "LeafFirstLru",
    "LookAheadPrefetch",
    "Lru",
    "Pins",
    "QueueAware",
    "Rank",
    "RegretChooser",
    "TenantQuotas",
    "Truncation",
]
