"""KV blocks: where they live, what they are called, and which are kept."""

from artesian.kvcache.arena import Arena
from artesian.kvcache.base import BlockAllocator, OutOfBlocksError
from artesian.kvcache.hashing import BlockHasher, KvIdentity
from artesian.kvcache.prefix_cache import PrefixCache
from artesian.kvcache.region import RegionArena

__all__ = [
    "Arena",
    "BlockAllocator",
    "BlockHasher",
    "KvIdentity",
    "OutOfBlocksError",
    "PrefixCache",
    "RegionArena",
]
