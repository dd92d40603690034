"""A store of files, as one process has it open."""

import contextlib
import itertools
import json
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any

from artesian.files.advice import Advice
from artesian.files.advisor import PatternAdvisor
from artesian.files.assembly import Assembly
from artesian.files.base import Access, Advisor, Prefetch
from artesian.files.blocks import Blocks
from artesian.files.config import DEFAULT_CAPACITY_BYTES, StoreConfig
from artesian.files.crew import Crew, Rank
from artesian.files.directory import DirectoryPlace
from artesian.files.errors import FilesUsageError, NotCachedError, OriginError
from artesian.files.fetcher import Fetcher
from artesian.files.flight import ByteLocks, Flights
from artesian.files.generation import Generation, generation_of
from artesian.files.index import FORMAT, below, open_index, to_text
from artesian.files.keeper import Keeper
from artesian.files.listings import Listings
from artesian.files.lru import LruAdvisor
from artesian.files.members import Members
from artesian.files.memory import PoolPlace
from artesian.files.news import News
from artesian.files.opened import OpenFile
from artesian.files.origin import Origin
from artesian.files.rules import Rules, covers
from artesian.files.shelf import Shelf

_DEFAULT_POOL_BYTES = 1 << 30
_NUM_THREADS = 4
_MOST_WAITING = 1024
_MAX_KNOWN = 1 << 14
_PREFETCH_CHECK_S = 60.0

AdvisorFactory = Callable[[int, int], Advisor]
"""Makes an advisor for a capacity in bytes and blocks of so many bytes."""
_ADVISORS: dict[str, AdvisorFactory] = {"patterns": PatternAdvisor, "lru": LruAdvisor}


class FileStore:
    """Reads files of origins through blocks that it keeps. Threads may share it.

    Raises:
        FilesUsageError: the directory is something else's, or another format's.
        OSError: it cannot be made.
    """

    def __init__(self, config: StoreConfig, make_advisor: AdvisorFactory | None = None) -> None:
        make_advisor = make_advisor or _ADVISORS[config.policy]
        self.config = config
        self.pid = os.getpid()
        directory = config.directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_format(config)
        self.index = open_index(directory / "index.sqlite")
        self._members = Members(directory / "members", self.index)
        self.owner = self._members.number
        self.rules = Rules(self.index)
        shelves = self._make_shelves()
        self.main = shelves[-1]
        self.advice = Advice(make_advisor(self.main.capacity_bytes, config.block_bytes))
        self.news = News(self.index, self.owner, self.advice)
        self.blocks = Blocks(shelves, self.advice, self.news)
        self._locks = ByteLocks(directory / "flights")
        flights = Flights(self._locks)
        # Threads of their own for those who wait, whatever is read ahead.
        waited_for = Crew(_NUM_THREADS, _MOST_WAITING)
        self._ahead = Crew(_NUM_THREADS, _MOST_WAITING)
        self._crews = (waited_for, self._ahead)
        self._fetcher = Fetcher(self.blocks, flights, waited_for, self.advice, self.news)
        self._streams = itertools.count(self.owner << 32)
        self._listings = Listings()
        self._known: dict[str, tuple[OpenFile, dict[str, Any], float]] = {}
        self.last_error: str | None = None
        self.is_closed = False
        self._origins: dict[str, Origin] = {}
        self._keeper = Keeper(self.index, self._members, self.blocks, self.advice, self.news)
        self._keeper.start(self.rules)

    def open(
        self, origin: Origin, path: str, *, check_s: float = 0.0, is_offline: bool = False
    ) -> tuple[OpenFile, dict[str, Any]]:
        """A file to read, and what the origin told of it.

        Args:
            check_s: what the origin said so many seconds ago at most is believed.
            is_offline: nothing is asked; the file is as it was when it was read last.

        Raises:
            FileNotFoundError, PermissionError: the origin says so.
            IsADirectoryError: it is a folder.
            OriginError: it does not answer.
            NotCachedError: it was never read, in offline mode.
        """
        self._origins.setdefault(origin.identity, origin)
        url = origin.url(path)
        known = self._known.get(url)
        if known is not None and not is_offline and time.time() - known[2] < check_s:
            return known[0].again(next(self._streams)), known[1]
        row = self._row(url) if is_offline or check_s > 0 else None
        if is_offline:
            if row is None:
                raise NotCachedError(f"{url} is not in the cache, and the store is used offline")
        elif row is None or time.time() - row[3] >= check_s:
            return self._ask(origin, path, url)
        text, size, told, asked_s = row
        generation = None if text is None else Generation(text)
        file = self._opened(origin, path, url, generation, size, is_offline)
        info = json.loads(told)
        if not is_offline:
            self._know(file, info, asked_s)
        return file, info

    def read(self, file: OpenFile, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of a file, cut at its end.

        Raises:
            ChangedError: the origin has another generation of the file by now.
            OriginError, FileNotFoundError, PermissionError: it does not give them.
            NotCachedError: they are not here, in offline mode.
        """
        end = min(end, file.size)
        if start >= end:
            return b""
        if file.generation is None:
            self.news.count("misses", 1, file.url)
            return self._fetcher.direct(file, start, end)
        size = file.block_bytes
        number, last = start // size, (end - 1) // size
        if number < last:
            return self._read_many(file, start, end, range(number, last + 1))
        first = number * size
        data = self.blocks.read(file, number, start - first, end - first)
        self._told(file, start, end, int(data is not None), 1)
        if data is None:
            data = self._missing(file, start, end, [number])[number]
        return data

    def warm(self, origin: Origin, path: str) -> tuple[int, int]:
        """Fetches a whole file if its blocks are not here: how many came, how many it has."""
        file, _ = self.open(origin, path)
        if file.generation is None:
            return 0, file.num_blocks
        missing = [n for n in range(file.num_blocks) if not self.blocks.has(file.name(n))]
        if missing:
            self._fetcher.fetch(file, missing)
        return len(missing), file.num_blocks

    def invalidate(self, origin: Origin, path: str) -> None:
        """Forgets a file or everything in a folder, as somebody wrote there."""
        url = origin.url(path)
        self.forget(url)

    def forget(self, url: str) -> int:
        """Removes the blocks of a file or folder, and what is known of it; how many blocks."""
        for known in [known for known in self._known if covers(url, known)]:
            self._known.pop(known, None)
        num_gone = self.blocks.forget(url)
        self.index.do(
            "DELETE FROM files WHERE path = ? OR path >= ? AND path < ?", url, *below(url)
        )
        return num_gone

    def resize(self, capacity_bytes: int) -> None:
        """Another bound for the main place, for all processes, at once."""
        self.main.resize(capacity_bytes)
        self.advice.resize(capacity_bytes)
        self.blocks.evict()

    def close(self) -> None:
        """Leaves the store; what is in it stays. A second call does nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        self._keeper.stop()
        for crew in self._crews:
            crew.close()
        self._members.close()
        self._locks.close()
        self.index.close()

    def abandon(self) -> None:
        """In a forked child: gives up the parent's locks, and touches nothing else of its."""
        self._members.close()
        self._locks.close()

    def _read_many(self, file: OpenFile, start: int, end: int, numbers: range) -> bytes:
        size = file.block_bytes
        missing = []
        with Assembly(end - start) as whole:
            for number in numbers:
                first = max(number * size, start)
                with whole.view[first - start : number * size + size - start] as view:
                    if not self.blocks.read_into(file, number, first - number * size, view):
                        missing.append(number)
            self._told(file, start, end, len(numbers) - len(missing), len(numbers))
            if missing:
                for number, data in self._missing(file, start, end, missing).items():
                    first = max(number * size, start)
                    whole.view[first - start : first - start + len(data)] = data
            return whole.take()

    def _missing(
        self, file: OpenFile, start: int, end: int, numbers: Sequence[int]
    ) -> dict[int, bytes]:
        """For each block that is not here, what the bytes `start` to `end` have of it."""
        size = file.block_bytes
        kept = [n for n in numbers if file.is_offline or self.blocks.admits(file, n)]
        parts = {}
        if kept:
            for number, data in self._fetcher.fetch(file, kept).items():
                first = number * size
                parts[number] = data[max(start - first, 0) : end - first]
        for number in numbers:
            if number not in parts:
                first = number * size
                begin, stop = max(start, first), min(end, first + size)
                parts[number] = self._fetcher.direct(file, begin, stop)
        return parts

    def _told(self, file: OpenFile, start: int, end: int, num_hits: int, num_blocks: int) -> None:
        access = Access(file.url, start, end - start, file.stream, time.time(), file.size, num_hits)
        self.news.access(access, num_blocks)
        for wanted in self.advice.access(access):
            if not file.is_offline:
                self._prefetch(wanted, file)

    def _prefetch(self, wanted: Prefetch, reader: OpenFile) -> None:
        def work() -> None:
            file = reader if wanted.path == reader.url else self._find(wanted.path)
            if file is not None and file.generation is not None:
                self._fetcher.prefetch(file, wanted.first, wanted.end)

        rank = Rank.BACKGROUND if wanted.is_background else Rank.SOON
        if self._ahead.submit(rank, work) is None:
            self.news.count("prefetches_dropped")

    def _find(self, url: str) -> OpenFile | None:
        """A file that nobody opened, for reading ahead; None if it cannot be had."""
        for origin in list(self._origins.values()):
            path = origin.path(url)
            if path is not None:
                try:
                    return self.open(origin, path, check_s=_PREFETCH_CHECK_S)[0]
                except OSError:
                    return None
        return None

    def _ask(self, origin: Origin, path: str, url: str) -> tuple[OpenFile, dict[str, Any]]:
        info = origin.info(path)
        if info.get("type") == "directory":
            raise IsADirectoryError(f"{url} is a folder")
        size = info.get("size")
        if not isinstance(size, int) or size < 0:
            raise OriginError(f"{url}: the store does not say how large it is (size {size!r})")
        generation = generation_of(info)
        now_s = time.time()
        row = self._row(url)
        text = None if generation is None else generation.text
        if row is not None and row[0] == text:
            self.news.checked(url, now_s)
        else:
            values = (url, origin.identity, text, size, to_text(info), now_s)
            self._changed(row is not None, values)
        file = self._opened(origin, path, url, generation, size, False)
        self._know(file, info, now_s)
        return file, info

    def _know(self, file: OpenFile, info: dict[str, Any], asked_s: float) -> None:
        """Remembers what the origin said, so that the index need not be asked either."""
        folder = file.path.rpartition("/")[0]
        if file.url not in self._known and self._listings.opened(file.origin.url(folder)):
            self._list(file.origin, folder)
        if len(self._known) >= _MAX_KNOWN:
            self._known.pop(next(iter(self._known)), None)
        self._known[file.url] = (file, info, asked_s)

    def _list(self, origin: Origin, folder: str) -> None:
        def work() -> None:
            with contextlib.suppress(OSError):
                self.advice.listed(origin.url(folder), origin.names(folder))

        self._ahead.submit(Rank.BACKGROUND, work)

    def _row(self, url: str) -> tuple[str | None, int, str, float] | None:
        query = "SELECT generation, size, info, checked_s FROM files WHERE path = ?"
        try:
            rows = self.index.rows(query, url)
        except sqlite3.Error as error:
            self.last_error = str(error)
            return None
        return rows[0] if rows else None

    def _changed(self, was_known: bool, values: tuple[Any, ...]) -> None:
        """Writes down a file that is new or has another generation, whose old blocks go."""
        url, _, generation, *_ = values
        try:
            if was_known:
                self.blocks.forget(url, but=generation)
            self.index.do("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", *values)
        except sqlite3.Error as error:
            # What cannot be written down is read all the same.
            self.last_error = str(error)

    def _opened(
        self,
        origin: Origin,
        path: str,
        url: str,
        generation: Generation | None,
        size: int,
        is_offline: bool,
    ) -> OpenFile:
        block_bytes = self.config.block_bytes
        stream = next(self._streams)
        return OpenFile(origin, path, url, generation, size, block_bytes, stream, is_offline)

    def _make_shelves(self) -> list[Shelf]:
        config = self.config
        shelves = []
        if config.pool is not None:
            pool_bytes = config.pool_bytes or self._capacity("memory") or _DEFAULT_POOL_BYTES
            place = PoolPlace(config.pool, pool_bytes)
            shelf = Shelf(place, self.index, self.rules, self.owner)
            if place.is_new:
                shelf.clear()
            if pool_bytes != shelf.capacity_bytes:
                shelf.resize(pool_bytes)
            shelves.append(shelf)
        capacity = config.capacity_bytes
        if capacity is None:
            capacity = self._capacity("disk") or DEFAULT_CAPACITY_BYTES
        if capacity > 0:
            disk = DirectoryPlace(config.directory, self.owner)
            if self.owner == 1:
                disk.clear()  # the index is new: nobody knows what is there
            shelf = Shelf(disk, self.index, self.rules, self.owner)
            if capacity != shelf.capacity_bytes:
                shelf.resize(capacity)
            shelves.append(shelf)
        return shelves

    def _capacity(self, label: str) -> int:
        rows = self.index.rows("SELECT capacity FROM places WHERE place = ?", label)
        return rows[0][0] if rows else 0


def _check_format(config: StoreConfig) -> None:
    """A directory says what it is, so that nothing else's files are taken for blocks."""
    path = config.directory / "FORMAT"
    text = f"artesian files {FORMAT}\n"
    try:
        found = path.read_text()
    except FileNotFoundError:
        strangers = [p.name for p in config.directory.iterdir() if not p.name.startswith("FORMAT")]
        if strangers and "index.sqlite" not in strangers and "members" not in strangers:
            raise FilesUsageError(
                f"{config.directory} is no store of files, and not empty (it has "
                f"{strangers[0]!r}): name another directory"
            ) from None
        partial = path.with_name(f"FORMAT.{os.getpid()}")
        partial.write_text(text)
        partial.replace(path)
        return
    if found != text:
        raise FilesUsageError(
            f"{config.directory} has format {found.strip()!r}, this program {text.strip()!r}: "
            "name another directory, or delete that one"
        )
