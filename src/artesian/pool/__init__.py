"""The memory pool: a store that processes of one host share, at the speed of memory.

`Pool` joins a pool or makes it, `Pool.store` opens a key space in it. Everything that can go wrong
is a `PoolError`.
"""

from artesian.pool.aio import AsyncPool, AsyncStore
from artesian.pool.cache import Cache, CacheStats, Expert
from artesian.pool.check import CheckReport, Finding
from artesian.pool.errors import (
    ConflictError,
    CorruptPoolError,
    DataLostError,
    FencedError,
    KeyTooLargeError,
    PoolClosedError,
    PoolError,
    PoolExistsError,
    PoolForkedError,
    PoolFullError,
    PoolMismatchError,
    PoolNotFoundError,
    PoolSystemError,
    PoolTimeoutError,
    PoolUsageError,
    QuotaExceededError,
    TooLargeError,
    ValueTooLargeError,
)
from artesian.pool.native import list_pools
from artesian.pool.pool import Pool
from artesian.pool.snapshot import Snapshot, verify_snapshot
from artesian.pool.stats import ClientInfo, NamespaceInfo, NodeInfo, PoolStats, pool_stats
from artesian.pool.store import HashStore
from artesian.pool.transaction import Transaction
from artesian.pool.tree import TreeStore

__all__ = [
    "AsyncPool",
    "AsyncStore",
    "Cache",
    "CacheStats",
    "CheckReport",
    "ClientInfo",
    "ConflictError",
    "CorruptPoolError",
    "DataLostError",
    "Expert",
    "FencedError",
    "Finding",
    "HashStore",
    "KeyTooLargeError",
    "NamespaceInfo",
    "NodeInfo",
    "Pool",
    "PoolClosedError",
    "PoolError",
    "PoolExistsError",
    "PoolForkedError",
    "PoolFullError",
    "PoolMismatchError",
    "PoolNotFoundError",
    "PoolStats",
    "PoolSystemError",
    "PoolTimeoutError",
    "PoolUsageError",
    "QuotaExceededError",
    "Snapshot",
    "TooLargeError",
    "Transaction",
    "TreeStore",
    "ValueTooLargeError",
    "list_pools",
    "pool_stats",
    "verify_snapshot",
]
