"""Pools as files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from artesian.pool.native import load_pool, save_pool
from artesian.pool.native import verify_snapshot as verify

if TYPE_CHECKING:
    from artesian.pool.pool import Pool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot file holds, or what of it was restored."""

    num_namespaces: int
    num_values: int
    value_bytes: int
    """Bytes of the keys and values."""
    num_left_out: int
    """Keys without a copy that verifies (saved), or whose time had run out (restored)."""
    num_namespaces_left_out: int
    """Namespaces that are not saved: caches, which fill up again."""
    file_bytes: int
    saved_unix_ms: int
    """When it was saved, in milliseconds since 1970."""
    is_frozen: bool
    """All keys were read at one moment."""


def save(pool: Pool, path: str | os.PathLike[str], *, frozen: bool) -> Snapshot:
    """Saves all stores of the pool to a file."""
    return Snapshot(**save_pool(pool.handle, os.fspath(path), frozen))


def load(pool: Pool, path: str | os.PathLike[str]) -> Snapshot:
    """Restores a file into the pool."""
    return Snapshot(**load_pool(pool.handle, os.fspath(path)))


def verify_snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """Reads a whole snapshot file and checks everything in it.

    Raises:
        PoolUsageError: it is damaged, or none; says where.
    """
    return Snapshot(**verify(os.fspath(path)))
