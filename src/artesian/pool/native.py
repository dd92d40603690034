"""The Rust side of the pool: the only module of this package that sees it."""

from typing import TYPE_CHECKING

from artesian._core import (
    Cache,
    PoolHandle,
    Store,
    Transaction,
    Tree,
    add_node,
    check_pool,
    drain_node,
    list_pools,
    load_pool,
    look_at_pool,
    remove_pool,
    save_pool,
    verify_snapshot,
)

if TYPE_CHECKING:
    from artesian._core import Bytes as Bytes

__all__ = [
    "Cache",
    "PoolHandle",
    "Store",
    "Transaction",
    "Tree",
    "add_node",
    "check_pool",
    "drain_node",
    "list_pools",
    "load_pool",
    "look_at_pool",
    "remove_pool",
    "save_pool",
    "verify_snapshot",
]
