"""KV blocks: where they live, what they are called, and which are kept."""

from artesian.kvcache.arena import Arena
from artesian.kvcache.base import BlockAllocator, OutOfBlocksError
from artesian.kvcache.hashing import BlockHasher, KvIdentity
from artesian.kvcache.kind import EXACT, KvKind
from artesian.kvcache.prefix_cache import PrefixCache
from artesian.kvcache.region import RegionArena

__all__ = [
    "EXACT",
    "Arena",
    "BlockAllocator",
    "BlockHasher",
    "KvIdentity",
    "KvKind",
    "OutOfBlocksError",
    "PrefixCache",
    "RegionArena",
]
