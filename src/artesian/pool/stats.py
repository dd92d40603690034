"""What can be seen of a pool, without joining it."""

from dataclasses import dataclass
from typing import Any

from artesian.pool.base import parse_address
from artesian.pool.native import look_at_pool


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One memory node."""

    number: int
    state: str
    """`live`, `draining` (it gets no new regions), `lost`, or `gone`."""
    size_bytes: int
    num_regions: int
    """Copies of regions that lie on it."""
    num_free_places: int
    """Regions that would still fit."""


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """One client: a process, or one of several pools that a process has open."""

    place: int
    incarnation: int
    pid: int
    state: str
    """`busy`, `idle`, `joining`, `dead` (to be recovered), `recovering`, or `damaged`."""
    is_alive: bool
    is_master: bool
    lease_left_ms: int
    num_pins: int
    """Objects that it keeps from being reused, as somebody looks at their bytes."""
    num_reads: int
    """Keys read since it joined, as far as it has told."""
    num_writes: int
    """Keys written or deleted since it joined, as far as it has told."""


@dataclass(frozen=True, slots=True)
class NamespaceInfo:
    """One key space."""

    name: str
    kind: str
    """`store`, `cache` or `tree`."""
    used_bytes: int
    """Bytes of its objects in one copy, as far as the clients have told."""
    quota_bytes: int | None
    floor_bytes: int
    """Bytes that the growth of others shall leave to it."""
    ttl_s: float | None
    """Seconds after which a value is gone if its writer says nothing."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment. Bytes are those of one copy, but for `node_bytes`."""

    replicas: int
    node_bytes: int
    lease_ms: int
    max_clients: int
    view_epoch: int
    """Goes up with every change of the nodes."""
    epoch: int
    """Goes up as memory is given back."""
    num_regions: int
    num_lost_regions: int
    """Regions all copies of which are lost."""
    block_bytes: int
    capacity_bytes: int
    free_bytes: int
    """Bytes of blocks that are nobody's; clients have more room in the blocks that they own."""
    num_wrecked_blocks: int
    """Blocks of clients that died, to be looked through."""
    nodes: tuple[NodeInfo, ...]
    clients: tuple[ClientInfo, ...]
    namespaces: tuple[NamespaceInfo, ...]


def pool_stats(address: str) -> PoolStats:
    """Looks at a pool without joining it.

    Raises:
        PoolNotFoundError: there is none.
        PoolUsageError: what is there is no pool, or of another version.
    """
    seen: dict[str, Any] = look_at_pool(parse_address(address))
    nodes = tuple(NodeInfo(**node) for node in seen.pop("nodes"))
    clients = tuple(ClientInfo(**client) for client in seen.pop("clients"))
    namespaces = tuple(NamespaceInfo(**known) for known in seen.pop("namespaces"))
    return PoolStats(**seen, nodes=nodes, clients=clients, namespaces=namespaces)
