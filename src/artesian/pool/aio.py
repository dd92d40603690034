"""The pool for asyncio programs.

An operation on a small value takes about a microsecond: less than it takes to hand it to a thread,
so it runs where it is awaited. What takes longer (large values, scans, waiting for another thread's
operation) goes to a thread, so that the event loop goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from artesian.pool.base import Key

if TYPE_CHECKING:
    from artesian.pool.base import Bytes
    from artesian.pool.pool import Pool
    from artesian.pool.stats import PoolStats
    from artesian.pool.store import HashStore

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

LARGE_BYTES = 64 << 10
"""Larger values are copied in a thread."""
_PAGE_KEYS = 256


class AsyncStore:
    """The operations of a `HashStore`, awaited. Made by `AsyncPool.store`.

    Args:
        store: the store.
    """

    __slots__ = ("store",)

    def __init__(self, store: HashStore) -> None:
        self.store = store

    async def _do(
        self, size_bytes: int, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Does it here, if it is quick and no other thread is at it."""
        if size_bytes > LARGE_BYTES or self.store.is_busy():
            return await asyncio.to_thread(work, *args, **kwargs)
        return work(*args, **kwargs)

    @overload
    async def get(self, key: Key) -> bytes | None: ...
    @overload
    async def get(self, key: Key, default: T) -> bytes | T: ...
    async def get(self, key: Key, default: Any = None) -> Any:
        """The value of `key`, or `default`."""
        found = self.store.get_now(key, default)
        if found is NotImplemented:
            return await asyncio.to_thread(self.store.get, key, default)
        return found

    async def get_into(self, key: Key, buffer: Bytes) -> int | None:
        """Copies the value of `key` to the start of a writable buffer; its bytes, or None."""
        return await self._do(size_of(buffer), self.store.get_into, key, buffer)

    async def get_range(self, key: Key, offset: int, length: int) -> bytes | None:
        """Up to `length` bytes of the value of `key` from byte `offset` on; None if it has none."""
        return await self._do(length, self.store.get_range, key, offset, length)

    async def size(self, key: Key) -> int | None:
        """Bytes of the value of `key`; None if it has none."""
        return await self._do(0, self.store.size, key)

    async def get_versioned(self, key: Key) -> tuple[bytes, int] | None:
        """The value of `key` and the name of its state; see `HashStore.get_versioned`."""
        size_bytes = await self.size(key)
        return await self._do(size_bytes or 0, self.store.get_versioned, key)

    async def put(self, key: Key, value: Bytes, *, ttl: float | None = None) -> None:
        """Gives `key` this value, whatever it had."""
        await self._do(size_of(value), self.store.put, key, value, ttl=ttl)

    async def insert(self, key: Key, value: Bytes, *, ttl: float | None = None) -> bool:
        """Gives `key` this value if it has none; whether it did."""
        return await self._do(size_of(value), self.store.insert, key, value, ttl=ttl)

    async def update(self, key: Key, value: Bytes, *, ttl: float | None = None) -> bool:
        """Gives `key` this value if it has one; whether it did."""
        return await self._do(size_of(value), self.store.update, key, value, ttl=ttl)

    async def compare_and_set(
        self, key: Key, expected: int | None, value: Bytes, *, ttl: float | None = None
    ) -> int | None:
        """Gives `key` a value if it is in a certain state; see `HashStore.compare_and_set`."""
        work = self.store.compare_and_set
        return await self._do(size_of(value), work, key, expected, value, ttl=ttl)

    async def compare_and_delete(self, key: Key, expected: int) -> bool:
        """Takes the value of `key` away if it is in a certain state; whether it was."""
        return await self._do(0, self.store.compare_and_delete, key, expected)

    async def increment(self, key: Key, by: int = 1) -> int:
        """Adds to the value of `key`; the sum. See `HashStore.increment`."""
        return await self._do(0, self.store.increment, key, by)

    async def append(self, key: Key, value: Bytes) -> int:
        """Puts bytes behind the value of `key`; how long it is then."""
        return await self._do(size_of(value), self.store.append, key, value)

    async def delete(self, key: Key) -> bool:
        """Takes the value of `key` away; whether there was one."""
        return await self._do(0, self.store.delete, key)

    async def get_many(self, keys: Iterable[Key]) -> list[bytes | None]:
        """The values of many keys, in their order; see `HashStore.get_many`."""
        return await asyncio.to_thread(self.store.get_many, keys)

    async def put_many(
        self,
        items: Mapping[bytes, Bytes] | Mapping[str, Bytes] | Iterable[tuple[Key, Bytes]],
        *,
        ttl: float | None = None,
    ) -> None:
        """Gives many keys their values, whatever they had; see `HashStore.put_many`."""
        await asyncio.to_thread(self.store.put_many, items, ttl=ttl)

    async def delete_many(self, keys: Iterable[Key]) -> list[bool]:
        """Takes the values of many keys away; for each whether there was one."""
        return await asyncio.to_thread(self.store.delete_many, keys)

    async def contains(self, key: Key) -> bool:
        """Whether `key` has a value."""
        return await self._do(0, self.store.__contains__, key)

    async def ttl(self, key: Key) -> float | None:
        """Seconds until the value of `key` expires; None if it never does or there is none."""
        return await self._do(0, self.store.ttl, key)

    async def expire(self, key: Key, ttl: float) -> bool:
        """Lets the value of `key` expire after `ttl` seconds; whether there is one."""
        return await self._do(0, self.store.expire, key, ttl)

    async def persist(self, key: Key) -> bool:
        """Lets the value of `key` never expire; whether there is one."""
        return await self._do(0, self.store.persist, key)

    async def keys(self, prefix: Key = b"") -> AsyncIterator[bytes]:
        """All keys that begin with `prefix`, in no order; see `HashStore.keys`."""
        start = prefix.encode() if isinstance(prefix, str) else prefix
        cursor = 0
        while True:
            keys, cursor = await asyncio.to_thread(self.store.scan, cursor, _PAGE_KEYS)
            for key in keys:
                if key.startswith(start):
                    yield key
            if cursor == 0:
                return

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.keys()

    async def count(self) -> int:
        """How many keys there are; see `HashStore.count`."""
        return await asyncio.to_thread(self.store.count)

    async def clear(self) -> int:
        """Deletes all keys; how many there were."""
        return await asyncio.to_thread(self.store.clear)

    def __repr__(self) -> str:
        return f"AsyncStore({self.store!r})"


class AsyncPool:
    """A pool whose operations are awaited. Also there as `Pool.aio`.

    `async with await AsyncPool.open("shm://NAME") as pool:` opens one and closes it at the end.

    Args:
        pool: the pool.
    """

    __slots__ = ("pool",)

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    @classmethod
    async def open(cls, address: str, **options: Any) -> AsyncPool:
        """Joins a pool, or makes it first: takes the options of `Pool`, raises what that does."""
        from artesian.pool.pool import Pool

        return cls(await asyncio.to_thread(Pool, address, **options))

    async def store(self, namespace: str = "default", **options: Any) -> AsyncStore:
        """The key-value store of a namespace; takes the options of `Pool.store`."""
        return AsyncStore(await asyncio.to_thread(self.pool.store, namespace, **options))

    async def stats(self) -> PoolStats:
        """Nodes, clients, namespaces and space of the pool at this moment."""
        return await asyncio.to_thread(self.pool.stats)

    async def close(self) -> None:
        """Leaves the pool; what is in it stays."""
        await asyncio.to_thread(self.pool.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncPool({self.pool!r})"


def size_of(value: Any) -> int:
    """Bytes of a buffer; 0 of what is none, which the operation then refuses."""
    if isinstance(value, bytes):
        return len(value)
    try:
        return memoryview(value).nbytes
    except TypeError:
        return 0
