"""Blocks as files of a directory, each with a checksum."""

import contextlib
import os
import struct
from pathlib import Path
from typing import Final

from blake3 import blake3

_MAGIC = b"ARTFILE1"
_TRAILER = struct.Struct("<8s32sQ32s")
_PAGE_BYTES = 4096
_MAX_VERIFIED = 1 << 16


class DirectoryPlace:
    """A `Place` on a disk.

    A file holds a block's bytes and behind them its name, length and BLAKE3. It gets its final name
    when it is whole, and does not change any more. Each process verifies a file when it reads it
    for the first time, and again if it was touched since.
    """

    label: Final = "disk"

    def __init__(self, path: Path, owner: int) -> None:
        self._blocks = path / "blocks"
        self._partial = path / "partial"
        self._prefix = f"{self._blocks}/"
        self._owner = owner
        self._verified: dict[bytes, tuple[int, int]] = {}
        for folder in (self._blocks, self._partial):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @staticmethod
    def room(num_bytes: int) -> int:
        """What a block of so many bytes takes."""
        return -(-(num_bytes + _TRAILER.size) // _PAGE_BYTES) * _PAGE_BYTES

    def write(self, name: bytes, data: bytes) -> None:
        """Keeps a block. Raises `OSError`; then nothing is left of it."""
        partial = self._partial / f"{self._owner}-{name.hex()}"
        trailer = _TRAILER.pack(_MAGIC, name, len(data), blake3(data).digest())
        target = self._path(name)
        try:
            with partial.open("wb", buffering=0) as file:
                _write_all(file.fileno(), data)
                _write_all(file.fileno(), trailer)
            try:
                partial.rename(target)
            except FileNotFoundError:
                Path(target).parent.mkdir(mode=0o700, exist_ok=True)
                partial.rename(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def has(self, name: bytes) -> bool:
        """Whether the block is there, as far as its file's name tells."""
        return os.path.exists(self._path(name))  # noqa: PTH110

    def read(self, name: bytes, num_bytes: int, start: int, end: int) -> bytes | None:
        """Bytes of a block of `num_bytes`; None if it is not there. A damaged one is removed."""
        fd = self._open(name, num_bytes)
        if fd is None:
            return None
        try:
            data = os.pread(fd, end - start, start)
        finally:
            os.close(fd)
        return data if len(data) == end - start else None

    def read_into(self, name: bytes, num_bytes: int, start: int, view: memoryview) -> bool:
        """Fills `view` with bytes of a block, as `read`; whether it could."""
        fd = self._open(name, num_bytes)
        if fd is None:
            return False
        try:
            return os.preadv(fd, [view], start) == len(view)
        finally:
            os.close(fd)

    def remove(self, name: bytes) -> None:
        """Forgets a block, there or not."""
        self._verified.pop(name, None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(name))  # noqa: PTH108

    def sweep(self, owner: int) -> None:
        """Removes what a dead owner had begun to write."""
        for partial in self._partial.glob(f"{owner}-*"):
            partial.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes all blocks, whole or not."""
        for path in [*self._blocks.glob("*/*"), *self._partial.glob("*")]:
            path.unlink(missing_ok=True)

    def _path(self, name: bytes) -> str:
        text = name.hex()
        return f"{self._prefix}{text[:2]}/{text[2:]}"

    def _open(self, name: bytes, num_bytes: int) -> int | None:
        """The file of a block, verified; None if there is none."""
        try:
            fd = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if self._is_sound(fd, name, num_bytes):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        self.remove(name)
        return None

    def _is_sound(self, fd: int, name: bytes, length: int) -> bool:
        stat = os.fstat(fd)
        if stat.st_size != length + _TRAILER.size:
            return False
        state = (stat.st_ino, stat.st_mtime_ns)
        if self._verified.get(name) == state:
            return True
        data = os.pread(fd, length, 0)
        wanted = _TRAILER.pack(_MAGIC, name, length, blake3(data).digest())
        if os.pread(fd, _TRAILER.size, length) != wanted:
            return False
        if len(self._verified) >= _MAX_VERIFIED:
            self._verified.pop(next(iter(self._verified)), None)
        self._verified[name] = state
        return True


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
