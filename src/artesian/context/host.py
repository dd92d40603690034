"""KV blocks in a memory pool that the processes of a host share; `crates/tier` moves them."""

from artesian._core import BlockMover
from artesian.context.base import ContextCacheError
from artesian.context.mover import MoverTier
from artesian.kvcache.base import BlockAllocator
from artesian.pool.base import parse_address
from artesian.pool.errors import PoolError

_NUM_THREADS = 2
_OVERHEAD = 32
"""Of a block's bytes one in so many is added for heads and checksums, about."""


class HostTier(MoverTier):
    """A `Tier` in the memory of the host: it survives restarts of servers, not of the host.

    The pool is made if it is not there, and joined if it is; equal blocks are there once for all
    servers. Nobody removes it: who starts later finds the blocks. `artesian pool remove NAME` does.
    `find` asks the pool, which takes about a microsecond for each block; `entries` tells when
    anybody used a block last.
    """

    def __init__(
        self,
        address: str,
        capacity_bytes: int,
        arena: BlockAllocator,
        most_saving_bytes: int,
        label: str = "host",
    ) -> None:
        """Joins the pool, or makes it.

        Args:
            address: `shm://NAME`, or the name alone.
            capacity_bytes: bound of all blocks; lower if a pool that exists has less room.
            most_saving_bytes: blocks that may wait to be saved.
            label: see `Tier`.

        Raises:
            OSError: the system refused.
            ContextCacheError: that is no pool, or one that cannot be used.
        """
        try:
            mover = BlockMover.in_pool(
                parse_address(address),
                capacity_bytes,
                arena.memory,
                _NUM_THREADS,
                most_saving_bytes,
            )
        except (PoolError, ValueError) as error:
            raise ContextCacheError(f"the pool {address} of the {label} tier: {error}") from None
        room_bytes = arena.block_bytes + arena.block_bytes // _OVERHEAD
        super().__init__(label, mover, mover.capacity_bytes, room_bytes, arena)
