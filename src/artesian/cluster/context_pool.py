"""The memory pool that the workers of a cluster keep the KV of prompts in."""

import contextlib
import logging
import threading

from artesian.cluster.base import ClusterError
from artesian.cluster.run_directory import RunDirectory
from artesian.config import EngineConfig
from artesian.pool import Pool, PoolError, pool_stats

logger = logging.getLogger(__name__)

REPLICAS = 2
"""With more nodes than one, the loss of one loses nothing."""
LEASE_MS = 10_000
"""Workers die here, and others wait for them: threads of their own keep their leases up."""
_CLOSE_S = 5.0
"""A pool whose nodes are just changing lets a client go only behind that."""
MAX_CLIENTS = 256
"""Each worker has three; those of dead ones are taken back."""
OVERHEAD = 16
"""Of a pool one byte in so many is not for blocks."""
TABLES_BYTES = 32 << 20


class ContextPool:
    """Made at the start of a cluster, and made anew when too much of it is lost.

    Losing it costs what it held: workers that run go on without, those that start get the new one.
    """

    def __init__(self, config: EngineConfig, num_nodes: int, directory: RunDirectory) -> None:
        """Makes the pool, or joins the one that `context_pool` names, which then stays at the end.

        Raises:
            ClusterError: there can be none.
            PoolError: the pool refuses.
        """
        if not config.enable_prefix_caching:
            raise ClusterError("memory_nodes needs enable_prefix_caching")
        self._size_bytes = config.context_pool_bytes
        self._num_nodes = num_nodes
        self._directory = directory
        self._is_own = config.context_pool is None
        self._num_made = 0
        self._pool: Pool | None = None
        self._make(config.context_pool or self._next_name())

    @property
    def own_address(self) -> str | None:
        """Where it is, if the cluster made it and it is there."""
        return self._pool.address if self._is_own and self._pool is not None else None

    def address(self) -> str | None:
        """For a worker that starts; None: it has to do without."""
        if self._pool is not None and not _is_lost(self._pool.address):
            return self._pool.address
        if self._is_own:
            logger.error("the context cache's pool is lost; making another")
            self._leave()
            try:
                self._make(self._next_name())
            except PoolError as error:
                logger.error("there is no context cache any more: %s", error)
                return None
            return self.own_address
        logger.error("the pool that context_pool names is lost; a worker starts without")
        return None

    def close(self) -> None:
        """Leaves it; the run directory removes what the cluster made."""
        self._leave()

    def _next_name(self) -> str:
        self._num_made += 1
        number = "" if self._num_made == 1 else str(self._num_made)
        name = f"{self._directory.cluster}-pool{number}"
        self._directory.note_pool(name)
        return name

    def _make(self, name: str) -> None:
        """The keeper is a client too: somebody always finishes what killed workers began."""
        replicas = min(self._num_nodes, REPLICAS)
        size = self._size_bytes * (OVERHEAD + 1) // OVERHEAD + TABLES_BYTES
        self._pool = Pool(
            name,
            size=size * replicas,
            nodes=self._num_nodes,
            replicas=replicas,
            lease_ms=LEASE_MS,
            max_clients=MAX_CLIENTS,
        )

    def _leave(self) -> None:
        """For a bounded time: the keeper has others to look after."""
        pool, self._pool = self._pool, None
        if pool is not None:
            closing = threading.Thread(target=_close, args=(pool,), daemon=True)
            closing.start()
            closing.join(_CLOSE_S)


def _close(pool: Pool) -> None:
    with contextlib.suppress(PoolError):
        pool.close()


def _is_lost(address: str) -> bool:
    """Whether the pool cannot be used any more, or has lost something that had no other copy."""
    try:
        stats = pool_stats(address)
    except PoolError:
        return True
    return stats.num_lost_regions > 0 or not any(node.state == "live" for node in stats.nodes)
