"""The Rust side of the pool: the only module of this package that sees it."""

from typing import TYPE_CHECKING

from artesian._core import (
    PoolHandle,
    Store,
    Tree,
    check_pool,
    list_pools,
    look_at_pool,
    remove_pool,
)

if TYPE_CHECKING:
    from artesian._core import Bytes as Bytes

__all__ = [
    "PoolHandle",
    "Store",
    "Tree",
    "check_pool",
    "list_pools",
    "look_at_pool",
    "remove_pool",
]
