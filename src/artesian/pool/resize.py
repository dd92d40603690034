"""Memory nodes that come and go while the pool is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from artesian.pool import native

if TYPE_CHECKING:
    from artesian.pool.pool import Pool

Told = Callable[[int, int], object]
"""Is told how far a resize is: bytes moved so far, copies of regions still to be made."""


@dataclass(frozen=True, slots=True)
class Resize:
    """What adding or draining a memory node did."""

    node: int
    moved_bytes: int
    num_copies: int
    """Copies of regions that were made on other nodes."""
    num_regions_added: int


def add_node(pool: Pool, number: int | None, told: Told | None) -> Resize:
    """See `Pool.add_node`."""
    return Resize(**native.add_node(pool.handle, number, told))


def drain_node(pool: Pool, number: int, told: Told | None) -> Resize:
    """See `Pool.drain_node`."""
    return Resize(**native.drain_node(pool.handle, number, told))
