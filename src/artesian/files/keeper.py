"""What has to be done now and then: news, dead processes, what has expired."""

import contextlib
import sqlite3
import threading
import time

from artesian.files.advice import Advice
from artesian.files.base import Block
from artesian.files.blocks import Blocks
from artesian.files.index import Index
from artesian.files.members import Members
from artesian.files.news import News
from artesian.files.rules import Rules

_PERIOD_S = 0.5
_CARE_PERIODS = 10
_MEMORY = "advisor"
_FILES_S = 7 * 86400.0
_JOIN_S = 5.0


class Keeper:
    """A thread that looks after the store while this process uses it."""

    def __init__(
        self, index: Index, members: Members, blocks: Blocks, advice: Advice, news: News
    ) -> None:
        self._index = index
        self._members = members
        self._blocks = blocks
        self._advice = advice
        self._news = news
        self._rules: Rules | None = None
        self._wake = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="artesian-files", daemon=True)
        self.last_error: str | None = None

    def start(self, rules: Rules) -> None:
        """Tells the advisor what is here, cleans up after the dead, and goes on in a thread."""
        self._rules = rules
        saved = self._index.get(_MEMORY)
        if saved:
            self._advice.load(saved)
        label = self._blocks.main.label
        query = "SELECT path, number, room FROM blocks WHERE place = ? ORDER BY used_s"
        for path, number, room in self._index.rows(query, label):
            self._advice.stored(Block(path, number), room, is_ours=False)
        self._bury()
        self._forget_files()
        self._blocks.evict()
        self._thread.start()

    def stop(self) -> None:
        """Writes the last news; the thread ends."""
        self._is_over = True
        self._wake.set()
        self._thread.join(_JOIN_S)
        with contextlib.suppress(sqlite3.Error):
            self._news.exchange()
            self._remember()

    def _run(self) -> None:
        num_periods = 0
        while not self._wake.wait(_PERIOD_S) and not self._is_over:
            num_periods += 1
            try:
                self._news.exchange()
                if num_periods % _CARE_PERIODS == 0:
                    self._care()
            except (OSError, sqlite3.Error) as error:
                self.last_error = f"{time.strftime('%H:%M:%S')}: {error}"

    def _care(self) -> None:
        assert self._rules is not None
        self._rules.reload()
        self._bury()
        expired = self._advice.expired()
        if expired:
            self._blocks.take(b for b in expired if not self._rules.is_pinned(b.path))
        self._advice.resize(self._blocks.main.capacity_bytes)
        self._remember()
        self._news.trim()

    def _bury(self) -> None:
        """Gives back what dead processes had taken."""
        rows = self._index.rows("SELECT DISTINCT owner FROM blocks WHERE owner IS NOT NULL")
        for (owner,) in rows:
            if self._members.is_dead(owner):
                for shelf in self._blocks.shelves:
                    shelf.sweep(owner)

    def _forget_files(self) -> None:
        """Forgets what the origin said of files of which nothing is here any more."""
        self._index.do(
            "DELETE FROM files WHERE checked_s < ? AND NOT EXISTS "
            "(SELECT 1 FROM blocks WHERE blocks.path = files.path)",
            time.time() - _FILES_S,
        )

    def _remember(self) -> None:
        memory = self._advice.save()
        if memory:
            self._index.set(_MEMORY, memory)
