"""The fsspec file system `artesian`: any other one, read through a store."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.chained import ChainedFileSystem

from artesian.files.base import BLOCK_BYTES
from artesian.files.config import make_config
from artesian.files.errors import FilesUsageError
from artesian.files.file import CachedFile, WrittenFile
from artesian.files.offline import OfflineView
from artesian.files.opened import OpenFile
from artesian.files.origin import Origin
from artesian.files.store import FileStore
from artesian.files.stores import open_store

_NUM_THREADS = 8


class ArtesianFileSystem(ChainedFileSystem):  # type: ignore[misc]
    """Reads files of another file system through a `FileStore`; writes go to that one directly.

    Use it by chained URLs: `fsspec.open("artesian::s3://bucket/key", artesian={...}, s3={...})`.

    Args:
        target_protocol, target_options: the other file system; chained URLs say them.
        fs: the other file system, in place of those.
        fo: the path that a chained URL ends with; of no use here.
        directory, capacity, pool, pool_capacity, block_size, timeout, policy: see `StoreConfig`;
            sizes may be written as `"10GiB"`.
        check: seconds for which what the origin said of a file is believed. With 0, it is asked
            whenever a file is opened.
        offline: serve what is in the store and ask the origin nothing.

    Raises:
        FilesUsageError: options that cannot be.
    """

    protocol: ClassVar[str] = "artesian"
    _strip_tokenize_options = ("fo",)

    def __init__(
        self,
        target_protocol: str | None = None,
        target_options: dict[str, Any] | None = None,
        fs: fsspec.AbstractFileSystem | None = None,
        fo: str | None = None,
        directory: str | os.PathLike[str] | None = None,
        capacity: int | str | None = None,
        pool: str | None = None,
        pool_capacity: int | str | None = None,
        block_size: int | str = BLOCK_BYTES,
        check: float = 0.0,
        offline: bool = False,
        timeout: float = 60.0,
        policy: str = "patterns",
        **storage_options: Any,
    ) -> None:
        if self._cached:
            return
        super().__init__(**storage_options)
        if fs is None:
            if target_protocol is None:
                raise FilesUsageError(
                    "which files? chain a URL, such as artesian::s3://bucket/key, or give "
                    "target_protocol or fs"
                )
            fs = fsspec.filesystem(target_protocol, **(target_options or {}))
        if not check >= 0:
            raise FilesUsageError(f"check {check!r}: expected seconds, 0 or more")
        self.fs = fs
        self.config = make_config(
            directory=directory,
            capacity=capacity,
            pool=pool,
            pool_capacity=pool_capacity,
            block_size=block_size,
            timeout=timeout,
            policy=policy,
        )
        self.check = float(check)
        self.offline = bool(offline)
        self.origin = Origin(fs, self.config.timeout_s)
        self._store: FileStore | None = None

        def strip(path: Any) -> Any:
            return fs._strip_protocol(type(self)._strip_protocol(path))

        # Each instance strips what its own target does.
        self.__dict__["_strip_protocol"] = strip

    @property
    def store(self) -> FileStore:
        """The store of this process; a forked child has another one."""
        store = self._store
        if store is None or store.is_closed or store.pid != os.getpid():
            store = self._store = open_store(self.config)
        return store

    @property
    def fsid(self) -> str:
        """Which file system it is."""
        return f"artesian_{self.origin.identity}"

    # Reading

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        if mode != "rb":
            self._writes(path)
            file = self.fs._open(
                path,
                mode=mode,
                block_size=block_size,
                autocommit=autocommit,
                cache_options=cache_options,
                **kwargs,
            )
            return WrittenFile(file, lambda: self._written(path))
        return CachedFile(self, path, *self._opened(path))

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """The bytes of a file, or some; negative positions count from its end."""
        file, _ = self._opened(self._strip_protocol(path))
        first = 0 if start is None else start if start >= 0 else max(file.size + start, 0)
        last = file.size if end is None else end if end >= 0 else file.size + end
        return self.store.read(file, first, last)

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Pieces of files, several at a time."""
        if not isinstance(starts, list):
            starts = [starts] * len(paths)
        if not isinstance(ends, list):
            ends = [ends] * len(paths)
        if len(starts) != len(paths) or len(ends) != len(paths):
            raise ValueError("cat_ranges: as many starts and ends as paths are needed")

        def one(path: str, start: int | None, end: int | None) -> Any:
            try:
                return self.cat_file(path, start, end)
            except Exception as error:
                if on_error == "return":
                    return error
                raise

        with ThreadPoolExecutor(min(_NUM_THREADS, len(paths) or 1)) as threads:
            return list(threads.map(one, paths, starts, ends))

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """What the origin says of a path."""
        path = self._strip_protocol(path)
        if self.offline:
            return self._view().info(path)
        found: dict[str, Any] = self.fs.info(path, **kwargs)
        return found

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """The children of a folder."""
        path = self._strip_protocol(path)
        if self.offline:
            return self._view().ls(path, detail)
        found: list[Any] = self.fs.ls(path, detail=detail, **kwargs)
        names = [(each["name"] if detail else each).rstrip("/") for each in found]
        if names:
            folder = self.origin.url(path.rstrip("/"))
            self.store.advice.listed(folder, [name.rpartition("/")[2] for name in names])
        return found

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any:
        """All files below a path."""
        if self.offline:
            return super().find(path, maxdepth, withdirs, detail, **kwargs)
        path = self._strip_protocol(path)
        return self.fs.find(path, maxdepth=maxdepth, withdirs=withdirs, detail=detail, **kwargs)

    def created(self, path: str) -> Any:
        """When a file was made."""
        return self.fs.created(self._strip_protocol(path))

    def modified(self, path: str) -> Any:
        """When a file was changed."""
        return self.fs.modified(self._strip_protocol(path))

    def checksum(self, path: str) -> Any:
        """What the origin has for one."""
        return self.fs.checksum(self._strip_protocol(path))

    def ukey(self, path: str) -> Any:
        """Changes with the file."""
        return self.fs.ukey(self._strip_protocol(path))

    def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> Any:
        """A URL that gives access to the origin's file."""
        return self.fs.sign(self._strip_protocol(path), expiration=expiration, **kwargs)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Lets the origin's file system forget listings."""
        self.fs.invalidate_cache(None if path is None else self._strip_protocol(path))

    # Writing: done by the origin, and then forgotten here.

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Makes a folder."""
        path = self._writes(path)
        self.fs.mkdir(path, create_parents=create_parents, **kwargs)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Makes a folder and those above it."""
        self.fs.makedirs(self._writes(path), exist_ok=exist_ok)

    def rmdir(self, path: str) -> None:
        """Removes an empty folder."""
        self.fs.rmdir(self._writes(path))

    def rm_file(self, path: str) -> None:
        """Removes a file."""
        path = self._writes(path)
        self.fs.rm_file(path)
        self._written(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Removes files and folders."""
        paths = [path] if isinstance(path, str) else list(path)
        paths = [self._writes(each) for each in paths]
        try:
            self.fs.rm(paths, recursive=recursive, maxdepth=maxdepth)
        finally:
            for each in paths:
                self._written(each)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copies a file within the origin."""
        path = self._writes(path2)
        self.fs.cp_file(self._strip_protocol(path1), path, **kwargs)
        self._written(path)

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Moves files."""
        source, target = self._writes(path1), self._writes(path2)
        try:
            self.fs.mv(source, target, **kwargs)
        finally:
            self._written(source)
            self._written(target)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Writes a whole file."""
        path = self._writes(path)
        self.fs.pipe_file(path, value, mode=mode, **kwargs)
        self._written(path)

    def put_file(self, lpath: str, rpath: str, *args: Any, **kwargs: Any) -> None:
        """Writes a local file's bytes."""
        path = self._writes(rpath)
        self.fs.put_file(lpath, path, *args, **kwargs)
        self._written(path)

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Makes an empty file, or changes its time."""
        path = self._writes(path)
        self.fs.touch(path, truncate=truncate, **kwargs)
        self._written(path)

    def _opened(self, path: str) -> tuple[OpenFile, dict[str, Any]]:
        return self.store.open(self.origin, path, check_s=self.check, is_offline=self.offline)

    def _view(self) -> OfflineView:
        return OfflineView(self.store.index, self.origin)

    def _writes(self, path: str) -> str:
        if self.offline:
            raise FilesUsageError(f"{path} cannot be written while the store is used offline")
        stripped: str = self._strip_protocol(path)
        return stripped

    def _written(self, path: str) -> None:
        self.store.invalidate(self.origin, path)


def register() -> None:
    """Makes fsspec know the protocol, where the package's entry point has not."""
    fsspec.register_implementation("artesian", ArtesianFileSystem, clobber=True)
