"""The blocks of a store, wherever they lie."""

import sqlite3
import time
from collections.abc import Iterable, Sequence

from artesian.files.advice import Advice
from artesian.files.base import Block
from artesian.files.news import News
from artesian.files.opened import OpenFile
from artesian.files.shelf import Shelf

_PAUSE_S = 5.0
_MAX_SEEN = 1 << 16


class Blocks:
    """Finds blocks on the quickest shelf that has them, and keeps new ones on all.

    The advisor decides about the last shelf, the largest one; on those before it, what was used
    longest ago goes.
    """

    def __init__(self, shelves: Sequence[Shelf], advice: Advice, news: News) -> None:
        self.shelves = tuple(shelves)
        self.main = self.shelves[-1]
        self._advice = advice
        self._news = news
        self._seen: dict[bytes, None] = {}
        self._paused_until_s = 0.0
        self.last_error: str | None = None

    def read(self, file: OpenFile, number: int, start: int, end: int) -> bytes | None:
        """Bytes `start` to `end` of a block; None if it is not there."""
        name = file.name(number)
        first, last = file.span(number)
        for shelf in self.shelves:
            data = shelf.place.read(name, last - first, start, end)
            if data is not None:
                self._used(shelf, file, number, name)
                return data
        return None

    def read_into(self, file: OpenFile, number: int, start: int, view: memoryview) -> bool:
        """Fills `view` with bytes of a block, from `start` on; whether it is there."""
        name = file.name(number)
        first, last = file.span(number)
        for shelf in self.shelves:
            if shelf.place.read_into(name, last - first, start, view):
                self._used(shelf, file, number, name)
                return True
        return False

    def read_whole(self, file: OpenFile, number: int) -> bytes | None:
        """A whole block; None if it is not there."""
        first, last = file.span(number)
        return self.read(file, number, 0, last - first)

    def has(self, name: bytes) -> bool:
        """Whether a block is there, unverified."""
        return any(shelf.place.has(name) for shelf in self.shelves)

    def admits(self, file: OpenFile, number: int, *, is_prefetch: bool = False) -> bool:
        """Whether a block should be kept, if it is fetched now."""
        if file.generation is None or not file.generation.is_settled(time.time()):
            return False
        first, last = file.span(number)
        room = self.main.place.room(last - first)
        return self._advice.admit(file.block(number), room, is_prefetch=is_prefetch)

    def keep(self, file: OpenFile, number: int, data: bytes) -> None:
        """Keeps a block where there is room. A place that fails is left alone for some seconds."""
        for shelf in self.shelves:
            if time.monotonic() >= self._paused_until_s:
                self._put(shelf, file, number, data)

    def forget(self, url: str, *, but: str | None = None) -> int:
        """Removes the blocks of a file or folder, those of generation `but` excepted; how many."""
        num_gone = 0
        for shelf in self.shelves:
            gone = shelf.remove_below(url, but=but)
            num_gone = max(num_gone, len(gone))
            if shelf is self.main:
                self._tell_gone(gone)
        return num_gone

    def evict(self, num_bytes: int = 0) -> int:
        """Makes room on all shelves; how many blocks went from the main one."""
        num_gone = 0
        for shelf in self.shelves:
            is_main = shelf is self.main
            gone = shelf.evict(num_bytes, self._advice.victims if is_main else _nobody)
            if is_main:
                self._tell_gone(gone)
                num_gone = len(gone)
        return num_gone

    def take(self, blocks: Iterable[Block]) -> None:
        """Removes blocks from the main shelf that should go even if there is room."""
        self._tell_gone(self.main.take(blocks))

    def clear(self) -> None:
        """Removes everything."""
        for shelf in self.shelves:
            shelf.clear()

    def _used(self, shelf: Shelf, file: OpenFile, number: int, name: bytes) -> None:
        self._news.used(name, time.time())
        if shelf is not self.shelves[0]:
            self._promote(shelf, file, number)

    def _put(self, shelf: Shelf, file: OpenFile, number: int, data: bytes) -> None:
        assert file.generation is not None
        block, name = file.block(number), file.name(number)
        is_main = shelf is self.main
        victims = self._advice.victims if is_main else _nobody
        try:
            is_kept, gone = shelf.put(name, block, file.generation.text, data, time.time(), victims)
        except (OSError, sqlite3.Error) as error:
            self._paused_until_s = time.monotonic() + _PAUSE_S
            self.last_error = f"{shelf.label}: {error}"
            self._news.count("store_errors")
            return
        if not is_main:
            return
        self._tell_gone(gone)
        if is_kept:
            room = shelf.place.room(len(data))
            self._advice.stored(block, room)
            self._news.stored(block, room)

    def _tell_gone(self, gone: Sequence[Block]) -> None:
        if not gone:
            return
        self._advice.removed(gone)
        self._news.count("evictions", len(gone))
        for block in gone:
            self._news.removed(block)

    def _promote(self, shelf: Shelf, file: OpenFile, number: int) -> None:
        """Puts a block on the quicker shelves when it is read there for the second time."""
        name = file.name(number)
        if name not in self._seen:
            if len(self._seen) >= _MAX_SEEN:
                self._seen.pop(next(iter(self._seen)), None)
            self._seen[name] = None
            return
        del self._seen[name]
        first, last = file.span(number)
        data = shelf.place.read(name, last - first, 0, last - first)
        if data is not None and time.monotonic() >= self._paused_until_s:
            for quicker in self.shelves[: self.shelves.index(shelf)]:
                self._put(quicker, file, number, data)


def _nobody(num_bytes: int) -> Iterable[Block]:
    return ()
