"""Files as programs see them: one to read from the store, one to write to the origin."""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fsspec.spec import AbstractBufferedFile

from artesian.files.opened import OpenFile

if TYPE_CHECKING:
    from artesian.files.filesystem import ArtesianFileSystem

_BUFFER_BYTES = 128 << 10
_LINE_BYTES = 8 << 10


class CachedFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file opened for reading. Small reads come from a buffer of 128 KiB.

    It stays the file that was opened: if the origin changes it, reads of what is not in the cache
    raise `ChangedError`.
    """

    def __init__(
        self, fs: "ArtesianFileSystem", path: str, opened: OpenFile, info: dict[str, Any]
    ) -> None:
        self.opened = opened
        self._buffer = b""
        self._buffer_start = 0
        self.loc = 0
        super().__init__(
            fs, path, "rb", block_size=opened.block_bytes, cache_type="none", size=opened.size
        )
        self._details = info

    def read(self, length: int | None = -1) -> bytes:
        """Up to `length` bytes from here on, fewer at the end alone; all if negative."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        start = self.loc
        left = max(self.size - start, 0)
        length = left if length is None or length < 0 else min(int(length), left)
        if length == 0:
            return b""
        skipped = start - self._buffer_start
        if skipped >= 0 and skipped + length <= len(self._buffer):
            data = self._buffer[skipped : skipped + length]
        elif length < _BUFFER_BYTES:
            # Within one block, so that a small read is never two.
            block_end = (start // self.opened.block_bytes + 1) * self.opened.block_bytes
            end = max(start + length, min(start + _BUFFER_BYTES, block_end))
            self._buffer = self._fetch_range(start, end)
            self._buffer_start = start
            data = self._buffer[:length]
        else:
            data = self._fetch_range(start, start + length)
        self.loc = start + len(data)
        return data

    def readline(self, size: int | None = -1) -> bytes:
        """Until the end of the line or of the file."""
        line: bytes = self.readuntil(b"\n", _LINE_BYTES)
        if size is not None and 0 <= size < len(line):
            self.seek(size - len(line), 1)
            return line[:size]
        return line

    def close(self) -> None:
        """Ends the use."""
        self._buffer = b""
        super().close()

    def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = self.fs.store.read(self.opened, start, end)
        return data


class WrittenFile:
    """A file of the origin, opened for writing; once closed, what the cache has of it goes."""

    def __init__(self, file: Any, written: Callable[[], None]) -> None:
        self._file = file
        self._written = written

    def close(self) -> None:
        """Ends writing."""
        try:
            self._file.close()
        finally:
            self._written()

    def commit(self) -> None:
        """Moves it to its place, at the end of a transaction."""
        self._file.commit()
        self._written()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Any:
        return iter(self._file)
