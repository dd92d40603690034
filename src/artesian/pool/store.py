"""The pool as a dictionary that processes share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from artesian.pool.native import Store

if TYPE_CHECKING:
    from artesian.pool.pool import Pool

_PAGE_KEYS = 256
"""Keys that are looked for at once."""


class HashStore(Store):
    """Keys and values of one namespace, shared by all processes that open it.

    A key is `bytes` or `str` (its UTF-8 bytes), a value is `bytes` or anything else with contiguous
    bytes and the buffer protocol: `bytearray`, `memoryview`, numpy arrays. What was put is seen by
    every process at once, whole or not at all. Made by `Pool.store`.

    Args:
        pool: the pool.
        namespace: name of the key space, 1 to 64 bytes.
        quota_bytes: most bytes of the namespace; as it was if None.
        ttl: seconds after which a value is gone if its writer says nothing, infinite for never; as
            it was if None.
    """

    __slots__ = ("_pool", "namespace")
    _pool: Pool
    namespace: str

    def __new__(
        cls,
        pool: Pool,
        namespace: str,
        *,
        quota_bytes: int | None = None,
        ttl: float | None = None,
    ) -> HashStore:
        """Opens the namespace, or makes it."""
        self = super().__new__(cls, pool.handle, namespace, quota_bytes=quota_bytes, ttl=ttl)
        self._pool = pool
        self.namespace = namespace
        return self

    @property
    def pool(self) -> Pool:
        """The pool that it belongs to."""
        return self._pool

    def keys(self, prefix: bytes | str = b"") -> Iterator[bytes]:
        """All keys that begin with `prefix`, in no order.

        Each key that has a value all the while comes at least once; those that come or go meanwhile
        may or may not.
        """
        start = prefix.encode() if isinstance(prefix, str) else prefix
        cursor = 0
        while True:
            keys, cursor = self.scan(cursor, _PAGE_KEYS)
            yield from (key for key in keys if key.startswith(start))
            if cursor == 0:
                return

    def __iter__(self) -> Iterator[bytes]:
        return self.keys()

    def __len__(self) -> int:
        """How many keys there are, see `count`."""
        return self.count()

    def __bool__(self) -> bool:
        """A store is true, empty or not."""
        return True

    def __repr__(self) -> str:
        return f"HashStore({self.namespace!r} of {self._pool.address})"
