"""Blocks in a memory pool, where all processes of the host find them."""

from typing import Final

from blake3 import blake3

from artesian.pool import DataLostError, Pool, PoolError

NAMESPACE = "files"
_LEASE_MS = 60_000
_OVERHEAD_BYTES = 1024
_PIECE_BYTES = 64 << 10
_DIGEST_BYTES = 16
_STRIDE = _PIECE_BYTES + _DIGEST_BYTES


class PoolPlace:
    """A `Place` in the namespace `files` of a memory pool.

    The pool is joined, or made with room for `capacity_bytes`. It stays when processes end. Blocks
    lie there in pieces of 64 KiB, each with 16 bytes of BLAKE3, which every read verifies.
    """

    label: Final = "memory"

    def __init__(self, address: str, capacity_bytes: int) -> None:
        self._pool = _open(address, capacity_bytes)
        self._store = self._pool.store(NAMESPACE)

    @property
    def is_new(self) -> bool:
        """Whether there was no pool before, so that nothing is in it."""
        return self._pool.created

    @staticmethod
    def room(num_bytes: int) -> int:
        """What a block of so many bytes takes, about."""
        return _stored_bytes(num_bytes) + _OVERHEAD_BYTES

    def write(self, name: bytes, data: bytes) -> None:
        """Keeps a block. Raises `OSError` when the pool is full or gone."""
        try:
            self._store.put(name, _pack(name, data))
        except (PoolError, MemoryError) as error:
            raise OSError(str(error)) from error

    def has(self, name: bytes) -> bool:
        """Whether the block is there."""
        try:
            return name in self._store
        except PoolError:
            return False

    def read(self, name: bytes, num_bytes: int, start: int, end: int) -> bytes | None:
        """Bytes of a block of `num_bytes`; None if it is not there. A damaged one is removed."""
        first, last = start // _PIECE_BYTES, max(start, end - 1) // _PIECE_BYTES
        stop = min((last + 1) * _STRIDE, _stored_bytes(num_bytes))
        try:
            stored = self._store.get_range(name, first * _STRIDE, stop - first * _STRIDE)
        except DataLostError:
            stored = b""
        except PoolError:
            return None
        if stored is None:
            return None
        data = _unpack(name, stored, first) if len(stored) == stop - first * _STRIDE else None
        if data is None:
            self.remove(name)
            return None
        skipped = first * _PIECE_BYTES
        return data[start - skipped : end - skipped]

    def read_into(self, name: bytes, num_bytes: int, start: int, view: memoryview) -> bool:
        """Fills `view` with bytes of a block, as `read`; whether it could."""
        data = self.read(name, num_bytes, start, start + len(view))
        if data is None:
            return False
        view[:] = data
        return True

    def remove(self, name: bytes) -> None:
        """Forgets a block, there or not. A pool that does not answer is left alone."""
        try:
            self._store.delete(name)
        except PoolError:
            return

    def sweep(self, owner: int) -> None:
        """Nothing is left of what was not put whole."""

    def clear(self) -> None:
        """Removes all blocks."""
        self._store.clear()


def _stored_bytes(num_bytes: int) -> int:
    return num_bytes + -(-num_bytes // _PIECE_BYTES) * _DIGEST_BYTES


def _digest(name: bytes, number: int, piece: bytes | memoryview) -> bytes:
    return blake3(piece, key=name).update(number.to_bytes(8, "little")).digest(_DIGEST_BYTES)


def _pack(name: bytes, data: bytes) -> bytes:
    parts: list[bytes | memoryview] = []
    view = memoryview(data)
    for number, start in enumerate(range(0, len(data), _PIECE_BYTES)):
        piece = view[start : start + _PIECE_BYTES]
        parts += [piece, _digest(name, number, piece)]
    return b"".join(parts)


def _unpack(name: bytes, stored: bytes, first: int) -> bytes | None:
    """The pieces from number `first` on; None if one does not verify."""
    parts = []
    view = memoryview(stored)
    for number, start in enumerate(range(0, len(stored), _STRIDE), start=first):
        piece = view[start : start + _STRIDE - _DIGEST_BYTES]
        if start + _STRIDE > len(stored):
            piece = view[start : len(stored) - _DIGEST_BYTES]
        if _digest(name, number, piece) != view[start + len(piece) :][:_DIGEST_BYTES]:
            return None
        parts.append(piece)
    return b"".join(parts)


def _open(address: str, capacity_bytes: int) -> Pool:
    """Others join with whatever size there is; a new pool has room for bookkeeping besides."""
    try:
        return Pool(address, create=False)
    except LookupError:
        size_bytes = capacity_bytes + capacity_bytes // 4 + (32 << 20)
        return Pool(address, size=size_bytes, lease_ms=_LEASE_MS)
