"""The Rust side of the pool: the only module of this package that sees it."""

from artesian._core import PoolHandle, Store, list_pools, look_at_pool, remove_pool

__all__ = ["PoolHandle", "Store", "list_pools", "look_at_pool", "remove_pool"]
