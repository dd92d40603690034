"""A pool of shared memory that processes open together."""

import contextlib
import os
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from artesian.pool.aio import AsyncPool
from artesian.pool.base import parse_address, parse_bytes
from artesian.pool.cache import ALGORITHMS, Cache
from artesian.pool.check import CheckReport, check
from artesian.pool.errors import PoolNotFoundError, PoolUsageError
from artesian.pool.native import PoolHandle, remove_pool
from artesian.pool.resize import Resize, Told, add_node, drain_node
from artesian.pool.snapshot import Snapshot, load, save
from artesian.pool.stats import NodeInfo, PoolStats, pool_stats
from artesian.pool.store import HashStore
from artesian.pool.transaction import Transaction, transact
from artesian.pool.tree import TreeStore

R = TypeVar("R")


def _leave(handle: PoolHandle) -> None:
    """Leaves a pool that nobody has any more; if views of values are held, the last one does."""
    with contextlib.suppress(PoolUsageError):
        handle.close()


class Pool:
    """One process's way into a pool: joins it, or makes it first.

    The pool lies in shared memory of this host (`/dev/shm`) and stays there until it is removed;
    processes come and go, and one that is killed harms nothing. Operations of several threads take
    turns; a process that wants more opens the pool several times. A forked child has to open the
    pool itself.

    Args:
        address: `shm://NAME`, or the name alone: letters, digits, - and _.
        size: bytes of all memory nodes together, such as `"4GiB"`; 1 GiB if the pool is made. What
            can be stored is about that over `replicas`.
        nodes: memory nodes of a pool that is made: as many as `replicas`, unless said otherwise.
        replicas: copies of everything, 1 to 4, on as many nodes; 1 if the pool is made.
        create: None joins the pool or makes it; True demands that there was none, False that there
            is one.
        lease_ms: a client that gave no sign of life for so long is ended by the others; 5000 if the
            pool is made.
        max_clients: most clients at a time; 127 if the pool is made (15 if it is small).

    Raises:
        PoolMismatchError: it exists with other numbers than those that were given.
        PoolNotFoundError, PoolExistsError: against `create`.
        PoolSystemError: the system refused; `/dev/shm` has no room, for example.
        PoolUsageError: arguments that make no pool.
    """

    def __init__(
        self,
        address: str,
        *,
        size: int | str | None = None,
        nodes: int | None = None,
        replicas: int | None = None,
        create: bool | None = None,
        lease_ms: int | None = None,
        max_clients: int | None = None,
    ) -> None:
        self.name = parse_address(address)
        self.handle = PoolHandle(
            self.name,
            size_bytes=parse_bytes(size),
            nodes=nodes,
            replicas=replicas,
            lease_ms=lease_ms,
            max_clients=max_clients,
            create=create,
        )
        # Also runs when the interpreter ends, so that the others need not find out.
        self._leave = weakref.finalize(self, _leave, self.handle)

    @property
    def address(self) -> str:
        """Where others find the pool."""
        return f"shm://{self.name}"

    @property
    def created(self) -> bool:
        """Whether this object made the pool."""
        return self.handle.created

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self.handle.closed

    @property
    def aio(self) -> AsyncPool:
        """The same pool for asyncio programs."""
        return AsyncPool(self)

    def store(
        self,
        namespace: str = "default",
        *,
        quota: int | str | None = None,
        ttl: float | None = None,
    ) -> HashStore:
        """The key-value store of a namespace, which is made if it is new.

        Args:
            namespace: its name, 1 to 64 bytes.
            quota: most bytes of its objects, such as `"1GiB"`, 0 for no limit; as it was if None.
            ttl: seconds after which a value is gone if its writer says nothing, infinite for never;
                as it was if None.

        Raises:
            PoolUsageError: the name cannot be used, or is that of a cache or a tree.
        """
        return HashStore(self, namespace, quota_bytes=parse_bytes(quota, 0), ttl=ttl)

    def tree(self, namespace: str, *, quota: int | str | None = None) -> TreeStore:
        """The ordered key space of a namespace, which is made if it is new.

        Args:
            namespace: its name, 1 to 64 bytes.
            quota: most bytes of its nodes and values, 0 for no limit; as it was if None.

        Raises:
            PoolUsageError: the name cannot be used, or is that of a store or a cache.
        """
        return TreeStore(self, namespace, quota_bytes=parse_bytes(quota, 0))

    def cache(
        self,
        name: str,
        capacity: int | str | None = None,
        *,
        max_keys: int = 0,
        algorithms: Sequence[str] = ALGORITHMS,
        adaptive: bool = True,
        sample: int = 96,
        history: int = 0,
        ttl: float | None = None,
    ) -> Cache:
        """The cache of that name, which is made if it is new.

        Args:
            name: its name, 1 to 64 bytes.
            capacity: most bytes of objects, headers and padding included, such as `"1GiB"`. One
                that exists stays as it was made.
            max_keys: most keys; 0 for no limit. One of the two limits is needed.
            algorithms: among which eviction algorithms it chooses: quick-demotion, lru, mru, fifo,
                lfu, lfuda, gds, gdsf, size, lru-2, lrfu, lirs, hyperbolic.
            adaptive: whether it learns which of them to follow; the first one until it knows.
            sample: slots that are looked at for one victim; about a third of them hold keys.
            history: evictions that are remembered, to learn from them; 0 for as many as keys.
            ttl: seconds after which a value is gone if its writer says nothing, infinite for never;
                as it was if None.

        Raises:
            PoolUsageError: parameters that cannot be, or a name of a store or a tree.
            PoolFullError: there is no room for its table.
        """
        return Cache(
            self,
            name,
            max_bytes=parse_bytes(capacity) or 0,
            max_keys=max_keys,
            algorithms=algorithms,
            adaptive=adaptive,
            sample=sample,
            history=history,
            ttl=ttl,
        )

    def transaction(self) -> Transaction:
        """Begins a transaction on keys of this pool's stores."""
        return Transaction(self)

    def transact(self, body: Callable[[Transaction], R], *, attempts: int = 64) -> R:
        """Runs `body` in a transaction and commits it; from the start when it conflicts.

        Args:
            body: gets the transaction; what it returns is returned.
            attempts: how often it is tried.

        Raises:
            ConflictError: the last attempt conflicted as well.
        """
        return transact(self, body, attempts)

    def drop(self, namespace: str) -> None:
        """Deletes a namespace with all its keys. Nobody should use it any more.

        Raises:
            PoolUsageError: there is none.
        """
        self.handle.drop_namespace(namespace)

    def stats(self) -> PoolStats:
        """Nodes, clients, namespaces and space of the pool at this moment."""
        return pool_stats(self.name)

    def nodes(self) -> tuple[NodeInfo, ...]:
        """All memory nodes that ever were, by number."""
        return self.stats().nodes

    def add_node(self, number: int | None = None, *, told: Told | None = None) -> Resize:
        """Makes the pool larger by a memory node, while others use it; returns when that is done.

        The node has as many bytes as the others; what is stored is spread anew.

        Args:
            number: the node, if its addition was begun before and not ended; a new one if None.
            told: called now and then with the bytes moved so far and the copies still to be made.
                What it raises is raised at the end: a resize is not interrupted.

        Raises:
            PoolUsageError: the pool cannot have more nodes, or had this one before.
            PoolSystemError: the system refused; `/dev/shm` has no room, for example.
            PoolTimeoutError: views of values (`HashStore.get_view`) keep a copy from moving.
        """
        return add_node(self, number, told)

    def drain_node(self, number: int, *, told: Told | None = None) -> Resize:
        """Moves everything off a memory node while others use the pool; then it is given back.

        Its number is not used again. If this fails in the middle, it can be called again, or
        `add_node` with the number takes it back.

        Args:
            number: the node.
            told: as for `add_node`.

        Raises:
            PoolUsageError: there is no such node, or the others have no room for what is on it.
            PoolTimeoutError: views of values (`HashStore.get_view`) keep a copy from moving.
        """
        return drain_node(self, number, told)

    def check(self, *, repair: bool = False) -> CheckReport:
        """Looks at everything in the pool for what should not be; others may work meanwhile.

        With nobody else there, every number is exact and lost memory is noticed.

        Args:
            repair: put right what can be.
        """
        return check(self, repair=repair)

    def snapshot(self, path: str | os.PathLike[str], *, frozen: bool = False) -> Snapshot:
        """Saves all stores to a file, which is replaced once everything is written.

        Caches and ordered key spaces are left out.

        Args:
            path: the file.
            frozen: hold all clients still meanwhile, so that the file holds the pool at one moment;
                else each key is as it was at some moment of the save.

        Raises:
            PoolTimeoutError: a frozen save would have taken longer than clients can wait.
        """
        return save(self, path, frozen=frozen)

    def restore(self, path: str | os.PathLike[str]) -> Snapshot:
        """Puts everything in a snapshot file into the pool, over what is there.

        Times to live go on from what was left of them. A file that is damaged changes nothing.

        Raises:
            PoolUsageError: the file is damaged, or none; says where.
            PoolFullError, QuotaExceededError: not everything fits; says how much was restored.
        """
        return load(self, path)

    def close(self) -> None:
        """Leaves the pool; what is in it stays. Does nothing the second time.

        Waits for operations of other threads.

        Raises:
            PoolUsageError: views of values are held (`HashStore.get_view`): the pool stays open.
        """
        self.handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Pool({self.address!r}{', closed' if self.closed else ''})"

    @staticmethod
    def remove(address: str) -> int:
        """Removes a pool with everything in it, whoever uses it; how many nodes it had.

        Raises:
            PoolNotFoundError: there is none.
        """
        name = parse_address(address)
        num_nodes = remove_pool(name)
        if num_nodes == 0:
            raise PoolNotFoundError(f"there is no pool {name!r}")
        return num_nodes
