"""The pool as a dictionary that processes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from artesian.pool.native import Store

if TYPE_CHECKING:
    from artesian.pool.pool import Pool


class HashStore(Store):
    """Keys and values of one namespace, shared by all processes that open it.

    A key is `bytes` or `str` (its UTF-8 bytes), a value is `bytes` or anything else with contiguous
    bytes and the buffer protocol: `bytearray`, `memoryview`, numpy arrays. What was put is seen by
    every process at once, whole or not at all. Made by `Pool.store`.

    Args:
        pool: the pool.
        namespace: name of the key space, 1 to 64 bytes.
        quota_bytes: most bytes of the namespace; as it was if None.
        ttl: seconds after which a value is gone if its writer says nothing; as it was if None.
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

    def __repr__(self) -> str:
        return f"HashStore({self.namespace!r} of {self._pool.address})"
