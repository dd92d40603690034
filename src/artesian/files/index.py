"""What is in a store and who is writing: an SQLite file that all processes share."""

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FORMAT = 1
_BUSY_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, origin TEXT, generation TEXT, size INTEGER, info TEXT, checked_s REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (
    place TEXT, name BLOB, path TEXT, number INTEGER, generation TEXT, room INTEGER,
    owner INTEGER, used_s REAL, PRIMARY KEY (place, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_path ON blocks (path, place, number);
CREATE INDEX IF NOT EXISTS by_use ON blocks (place, used_s);
CREATE INDEX IF NOT EXISTS by_owner ON blocks (owner) WHERE owner IS NOT NULL;
CREATE TABLE IF NOT EXISTS places (place TEXT PRIMARY KEY, used INTEGER, capacity INTEGER)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rules (path TEXT PRIMARY KEY, pinned INTEGER, quota INTEGER)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (path TEXT, name TEXT, value REAL, PRIMARY KEY (path, name))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS news (
    number INTEGER PRIMARY KEY AUTOINCREMENT, owner INTEGER, kind TEXT, body TEXT
);
"""


class Index:
    """One process's connection. Threads take turns; transactions of processes do, too.

    Raises `sqlite3.Error` when the file is damaged or its disk fails; `Store` lives on without it.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA journal_size_limit = 4194304")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Ends the connection."""
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is done within happens at once, and nobody else writes meanwhile; nothing of it
        if it raises."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def do(self, query: str, *values: Any) -> int:
        """Changes rows; how many."""
        with self._lock:
            return self._db.execute(query, values).rowcount

    def get(self, key: str) -> bytes | None:
        """A value of `meta`."""
        found = self.rows("SELECT value FROM meta WHERE key = ?", key)
        return found[0][0] if found else None

    def set(self, key: str, value: bytes) -> None:
        """Replaces a value of `meta`."""
        self.do("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, value)


def open_index(path: Path) -> Index:
    """The index at `path`, which is made if it is new, and made anew if it is damaged.

    Raises `sqlite3.OperationalError` when the system does not let it.
    """
    try:
        return Index(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return Index(path)


def to_text(info: dict[str, Any]) -> str:
    """What a file system tells of a file, as JSON; what JSON has no form for becomes text."""
    return json.dumps(info, default=str)


def below(path: str) -> tuple[str, str]:
    """Bounds of a range of paths: first (inclusive) and last (exclusive) below a folder."""
    return f"{path.rstrip('/')}/", f"{path.rstrip('/')}0"
