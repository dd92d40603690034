"""Where files come from: any file system of fsspec, with patience that ends."""

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from fsspec import AbstractFileSystem

from artesian.files.errors import ChangedError, OriginError
from artesian.files.generation import Generation, generation_of

T = TypeVar("T")

_NUM_ATTEMPTS = 3
_FIRST_PAUSE_S = 0.1
_MAX_HUNG = 16
_DOWN_S = 5.0
# What a retry cannot mend, among the errors of the operating system.
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
# An object is read whole from one state of it, if in one request.
_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "oss", "memory"})
# Options that say which store it is; who asks, and how, is not among them.
_PLACES = (
    *("endpoint_url", "host", "port", "base_url", "account_name", "repo_id", "project", "org"),
    *("repo", "url", "server", "bucket", "connection_string", "fo"),
)


class Origin:
    """A file system that answers within `timeout_s`, or raises.

    Requests that fail are tried again, three times in all. After that nobody asks for five seconds,
    and everybody gets the error at once. A request that hangs is left to its thread; when too many
    hang, no more are begun.
    """

    def __init__(self, fs: AbstractFileSystem, timeout_s: float) -> None:
        self.fs = fs
        self.timeout_s = timeout_s
        self.protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        place = _place(fs.storage_options)
        digest = hashlib.sha256(json.dumps(place, default=str, sort_keys=True).encode())
        self.identity = f"{self.protocol}+{digest.hexdigest()[:8]}" if place else self.protocol
        """Names the store: equal for all who mean the same one, with whatever credentials."""
        self._num_hung = 0
        self._lock = threading.Lock()
        self._down: tuple[float, OriginError] | None = None

    def url(self, path: str) -> str:
        """The path for advisors and people of a path of this file system."""
        rest = path.partition("://")[2] if "://" in path else path
        return f"{self.identity}://{rest}"

    def path(self, url: str) -> str | None:
        """The reverse of `url`; None if the URL is another store's."""
        start = f"{self.identity}://"
        if not url.startswith(start):
            return None
        rest = url[len(start) :]
        return str(self.fs._strip_protocol(f"{self.protocol}://{rest}"))

    def info(self, path: str) -> dict[str, Any]:
        """What the store says of a path now.

        Raises:
            FileNotFoundError, PermissionError: it says so.
            OriginError: it does not answer.
        """

        def ask() -> dict[str, Any]:
            if getattr(self.fs, "dircache", None):
                self.fs.invalidate_cache(path)
            found: dict[str, Any] = self.fs.info(path)
            return found

        return self._call(f"what {self.url(path)} is", ask)

    def names(self, path: str) -> list[str]:
        """The last parts of the names in a folder, in the store's order. Raises as `info`."""

        def ask() -> list[str]:
            found: list[str] = self.fs.ls(path, detail=False)
            return found

        paths = self._call(f"what is in {self.url(path)}", ask)
        return [each.rstrip("/").rpartition("/")[2] for each in paths]

    def fetch(self, path: str, start: int, end: int, size: int, wanted: Generation) -> bytes:
        """Bytes `start` to `end` of a file of `size` bytes in the generation `wanted`.

        Raises:
            ChangedError: the file has another generation by now.
            FileNotFoundError, PermissionError: the store says so.
            OriginError: it does not answer, or with too few bytes.
        """
        if start == end:
            return b""
        is_whole = start == 0 and end == size

        def ask() -> bytes:
            data: bytes = self.fs.cat_file(path, start=start, end=end)
            return data

        data = self._call(f"bytes {start} to {end} of {self.url(path)}", ask)
        if len(data) == size and not is_whole:
            data = data[start:end]  # a web server that knows no ranges
        if len(data) != end - start or not (is_whole and self.protocol in _ATOMIC):
            self.confirm(path, wanted)
        if len(data) != end - start:
            raise OriginError(
                f"{self.url(path)}: the store gave {len(data)} bytes where {end - start} were "
                f"asked for (from {start} on), though the file has not changed"
            )
        return data

    def read_unchecked(self, path: str, start: int, end: int) -> bytes:
        """Bytes of a file of which the store does not tell whether it changes."""

        def ask() -> bytes:
            data: bytes = self.fs.cat_file(path, start=start, end=end)
            return data

        return self._call(f"bytes {start} to {end} of {self.url(path)}", ask)

    def confirm(self, path: str, wanted: Generation) -> None:
        """Raises `ChangedError` if the file has not the generation `wanted` any more."""
        found = generation_of(self.info(path))
        if found is None or found.text != wanted.text:
            raise ChangedError(
                f"{self.url(path)} changed while it was read: open it again to read the new bytes"
            )

    def _call(self, what: str, ask: Callable[[], T]) -> T:
        self._check_down()
        pause_s = _FIRST_PAUSE_S
        for attempt in range(1, _NUM_ATTEMPTS + 1):
            try:
                result = self._once(what, ask)
            except _FINAL:
                raise
            except OriginError as error:
                self._down = (time.monotonic() + _DOWN_S, error)
                raise
            except Exception as error:
                if attempt == _NUM_ATTEMPTS:
                    failed = OriginError(
                        f"the store did not say {what}: {type(error).__name__}: {error}"
                    )
                    self._down = (time.monotonic() + _DOWN_S, failed)
                    raise failed from error
                time.sleep(pause_s * (1 + random.random()))
                pause_s *= 3
            else:
                self._down = None
                return result
        raise AssertionError

    def _once(self, what: str, ask: Callable[[], T]) -> T:
        with self._lock:
            if self._num_hung >= _MAX_HUNG:
                raise OriginError(
                    f"{self._num_hung} requests to {self.identity} hang: no more are begun"
                )
        future: Future[T] = Future()
        # A thread for each request, as one that hangs must not hold up the end of the program.
        threading.Thread(target=_run, args=(future, ask), daemon=True).start()
        try:
            return future.result(self.timeout_s)
        except FutureTimeoutError:
            if future.done():
                return future.result()
        with self._lock:
            self._num_hung += 1
        future.add_done_callback(self._ended)
        raise OriginError(f"the store did not say {what} within {self.timeout_s:g} s")

    def _ended(self, future: "Future[Any]") -> None:
        with self._lock:
            self._num_hung -= 1

    def _check_down(self) -> None:
        if self._down is None:
            return
        until, error = self._down
        if time.monotonic() < until:
            raise OriginError(f"{error}; it is not asked again for some seconds") from error
        self._down = None


def _run(future: "Future[T]", ask: Callable[[], T]) -> None:
    try:
        future.set_result(ask())
    except BaseException as error:
        future.set_exception(error)


def _place(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that say which store is meant."""
    found = {key: options[key] for key in _PLACES if options.get(key)}
    for key, value in options.items():
        if isinstance(value, Mapping) and (nested := _place(value)):
            found[key] = nested
    return found
