"""The pool as a sorted dictionary that processes share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from artesian.pool.base import Key, end_of_prefix
from artesian.pool.native import Tree

if TYPE_CHECKING:
    from artesian.pool.pool import Pool

_PAGE_ROWS = 256
"""Keys that are read at once."""


class TreeStore(Tree):
    """Keys of one namespace in the order of their bytes, shared by all processes that open it.

    Keys and values are those of a `HashStore`; looking one up takes longer, but ranges of keys can
    be walked. Made by `Pool.tree`.

    Args:
        pool: the pool.
        namespace: name of the key space, 1 to 64 bytes.
        quota_bytes: most bytes of the namespace; as it was if None.
    """

    __slots__ = ("_pool", "namespace")
    _pool: Pool
    namespace: str

    def __new__(cls, pool: Pool, namespace: str, *, quota_bytes: int | None = None) -> TreeStore:
        """Opens the namespace, or makes it."""
        self = super().__new__(cls, pool.handle, namespace, quota_bytes=quota_bytes)
        self._pool = pool
        self.namespace = namespace
        return self

    @property
    def pool(self) -> Pool:
        """The pool that it belongs to."""
        return self._pool

    def range(
        self,
        start: Key | None = None,
        stop: Key | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys from `start` on and below `stop`, with their values, in order.

        Each key comes as it was at some moment of the walk; one that is there all the while comes
        exactly once.

        Args:
            start: the first key; None begins with the smallest.
            stop: the key before which the walk ends; None goes to the largest.
            reverse: from the last key down to the first.
            limit: at most so many keys.
        """
        left = _PAGE_ROWS if limit is None else limit
        is_first = True
        while left > 0:
            page = min(left, _PAGE_ROWS)
            # A page begins behind the last key of the one before.
            rows = self.rows(
                start, stop, limit=page, reverse=reverse, open_start=not (is_first or reverse)
            )
            yield from rows
            if len(rows) < page:
                return
            last = rows[-1][0]
            start, stop = (start, last) if reverse else (last, stop)
            left = _PAGE_ROWS if limit is None else left - page
            is_first = False

    def scan(self, prefix: Key = b"", *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Keys that begin with `prefix`, with their values, in order."""
        start = prefix.encode() if isinstance(prefix, str) else prefix
        return self.range(start, end_of_prefix(start), reverse=reverse)

    def keys(self, prefix: Key = b"") -> Iterator[bytes]:
        """Keys that begin with `prefix`, in order."""
        return (key for key, _ in self.scan(prefix))

    def __iter__(self) -> Iterator[bytes]:
        return self.keys()

    def __repr__(self) -> str:
        return f"TreeStore({self.namespace!r} of {self._pool.address})"
