"""What the processes of a store tell each other, and what they count."""

import json
import sqlite3
import threading
from collections import Counter
from typing import Any

from artesian.files.advice import Advice
from artesian.files.base import Access, Block
from artesian.files.index import Index

_MAX_PENDING = 4096
_KEPT_ROWS = 4096
_COUNTED_FOLDERS = 512


class News:
    """Collects what happens here, and now and then writes it down and reads what others wrote.

    Nobody waits for it: what was not written when a process is killed is lost, and a process that
    is too slow misses some. It only makes advisors and counts less exact.
    """

    def __init__(self, index: Index, owner: int, advice: Advice) -> None:
        self._index = index
        self._owner = owner
        self._advice = advice
        self._lock = threading.Lock()
        self._accesses: list[Access] = []
        self._events: list[tuple[str, Block, int]] = []
        self._used: dict[bytes, float] = {}
        self._checked: dict[str, float] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._last = self._newest()

    def access(self, access: Access, num_blocks: int) -> None:
        """Somebody read here, of so many blocks."""
        if len(self._accesses) < _MAX_PENDING:
            self._accesses.append(access)
        num_misses = num_blocks - access.num_hits
        folder = access.path.rpartition("/")[0]
        with self._lock:
            counts = self._counts
            counts["", "read_bytes"] += access.length
            for path in ("", folder):
                if access.num_hits:
                    counts[path, "hits"] += access.num_hits
                if num_misses:
                    counts[path, "misses"] += num_misses

    def stored(self, block: Block, num_bytes: int) -> None:
        """A block is there now."""
        self._events.append(("+", block, num_bytes))

    def removed(self, block: Block) -> None:
        """A block is gone."""
        self._events.append(("-", block, 0))

    def used(self, name: bytes, now_s: float) -> None:
        """A block was read."""
        self._used[name] = now_s

    def checked(self, url: str, now_s: float) -> None:
        """The origin said that a file has not changed."""
        self._checked[url] = now_s

    def count(self, name: str, amount: float = 1, path: str = "") -> None:
        """Adds to a count: of the whole store, and of a file's folder if `path` is one."""
        with self._lock:
            self._counts["", name] += amount  # type: ignore[assignment]
            if path:
                self._counts[path.rpartition("/")[0], name] += amount  # type: ignore[assignment]

    def recall(self) -> None:
        """Tells the advisor all that is still written of what was read, before its time too."""
        self._last = 0
        self._read()

    def exchange(self) -> None:
        """Writes and reads. Raises `sqlite3.Error`."""
        self._write()
        self._read()

    def _write(self) -> None:
        accesses, self._accesses = self._accesses, []
        events, self._events = self._events, []
        used, self._used = self._used, {}
        checked, self._checked = self._checked, {}
        with self._lock:
            counts, self._counts = self._counts, Counter()
        if not (accesses or events or used or checked or counts):
            return
        with self._index.transaction() as db:
            db.executemany(
                "UPDATE blocks SET used_s = ? WHERE place = ? AND name = ?",
                [(at, place, name) for name, at in used.items() for place in ("disk", "memory")],
            )
            db.executemany(
                "UPDATE files SET checked_s = ? WHERE path = ?",
                [(at, url) for url, at in checked.items()],
            )
            db.executemany(
                "INSERT INTO counts VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET value = value + excluded.value",
                [(*key, value) for key, value in counts.items()],
            )
            for kind, body in (("access", accesses), ("block", events)):
                if body:
                    self._post(db, kind, body)

    def _post(self, db: sqlite3.Connection, kind: str, body: Any) -> None:
        text = json.dumps(body)
        db.execute(
            "INSERT INTO news (owner, kind, body) VALUES (?, ?, ?)", (self._owner, kind, text)
        )

    def trim(self) -> None:
        """Forgets old news, and the counts of folders that few read."""
        self._index.do(
            "DELETE FROM news WHERE number <= (SELECT max(number) FROM news) - ?", _KEPT_ROWS
        )
        self._index.do(
            "DELETE FROM counts WHERE path != '' AND path NOT IN (SELECT path FROM counts "
            "WHERE name IN ('hits', 'misses') GROUP BY path ORDER BY sum(value) DESC LIMIT ?)",
            _COUNTED_FOLDERS,
        )

    def _read(self) -> None:
        query = (
            "SELECT number, kind, body FROM news WHERE number > ? AND owner != ? ORDER BY number"
        )
        for number, kind, body in self._index.rows(query, self._last, self._owner):
            self._last = number
            for row in json.loads(body):
                if kind == "access":
                    self._advice.access(Access(*row), is_ours=False)
                elif row[0] == "+":
                    self._advice.stored(Block(*row[1]), row[2], is_ours=False)
                else:
                    self._advice.removed([Block(*row[1])])

    def _newest(self) -> int:
        newest: int | None = self._index.rows("SELECT max(number) FROM news")[0][0]
        return newest or 0
