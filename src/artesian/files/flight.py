"""One flight for each block: of all who miss it at once, one asks the origin.

A flight is a lock on one byte of a file, of which the system takes care: it ends with the process
that has it, however that ends, so no flight is stuck because somebody was killed.
"""

import fcntl
import os
import struct
import threading
from concurrent.futures import Future
from pathlib import Path

_LOCK = struct.Struct("hhqqi4x")
_OFFSETS = (1 << 62) - 1


class ByteLocks:
    """Locks on bytes of a file, one holder each, among processes and threads.

    Open file description locks (`fcntl(2)`): they belong to what `open` returned. A forked child
    shares that with its parent, so it has to `close` its copy.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._mutex = threading.Lock()
        self._held: set[int] = set()

    def acquire(self, offset: int) -> bool:
        """Takes the lock if nobody has it; whether it did."""
        with self._mutex:
            if offset in self._held:
                return False
            if not self._set(fcntl.F_WRLCK, offset):
                return False
            self._held.add(offset)
            return True

    def release(self, offset: int) -> None:
        """Gives the lock back."""
        with self._mutex:
            self._held.discard(offset)
            self._set(fcntl.F_UNLCK, offset)

    def is_free(self, offset: int) -> bool:
        """Whether nobody has the lock just now."""
        with self._mutex:
            if offset in self._held:
                return False
            asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
            kind: int = _LOCK.unpack(fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, asked))[0]
            return kind == fcntl.F_UNLCK

    def close(self) -> None:
        """Gives all locks back, if no other process has a copy. Again: nothing, as the number may
        be that of another file by then."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _set(self, kind: int, offset: int) -> bool:
        wanted = _LOCK.pack(kind, os.SEEK_SET, offset, 1, 0)
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, wanted)
        except BlockingIOError:
            return False
        return True


def offset_of(name: bytes) -> int:
    """The byte for a name; two names share one almost never, and then only wait for each other."""
    return int.from_bytes(name[:8], "little") & _OFFSETS


class Flights:
    """The flights of this process: the first who wants a block leads, all get what it gets."""

    def __init__(self, locks: ByteLocks) -> None:
        self._locks = locks
        self._mutex = threading.Lock()
        self._flights: dict[bytes, Future[bytes]] = {}

    def join(self, name: bytes) -> tuple["Future[bytes]", bool]:
        """The flight of a block, and whether the caller leads it: then it has to `land` it."""
        with self._mutex:
            flight = self._flights.get(name)
            if flight is not None:
                return flight, False
            flight = self._flights[name] = Future()
            return flight, True

    def lift(self, name: bytes) -> bool:
        """Whether no other process has this flight; if so none will until `land`. For leaders."""
        return self._locks.acquire(offset_of(name))

    def land(self, name: bytes, result: bytes | BaseException) -> None:
        """Gives all what came of it."""
        with self._mutex:
            flight = self._flights.pop(name, None)
        self._locks.release(offset_of(name))
        if flight is None:
            return
        if isinstance(result, bytes):
            flight.set_result(result)
        else:
            flight.set_exception(result)

    def is_open(self, name: bytes) -> bool:
        """Whether this process has it."""
        return name in self._flights
