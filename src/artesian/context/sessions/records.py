"""Records of sessions in files that the servers of a directory share.

One thread reads and writes them, so that no step of an engine waits for a disk. A record is written
under another name first: readers see a whole one or none.
"""

import logging
import os
import threading
import time
from collections import OrderedDict
from pathlib import Path

import msgspec

from artesian.context.sessions.record import SessionKey, SessionRecord

_logger = logging.getLogger(__name__)

FOLDER = "sessions"
_SUFFIX = ".session"
_LOOK_EVERY_S = 0.5
_QUIET_S = 30.0
"""Between two messages about a disk that refuses."""
_RETIRE_AFTER_S = 5.0
_MOST_BYTES = 64 << 20
_MOST_WAITING = 10_000
"""Records that wait to be written; then the oldest is not written."""


class SessionRecords:
    """The `sessions` folder of a directory of blocks."""

    def __init__(self, directory: Path) -> None:
        """Raises `OSError` when the folder cannot be made."""
        self._folder = directory / FOLDER
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._waiting: OrderedDict[str, bytes | None] = OrderedDict()
        self._news: list[SessionRecord] = []
        self._seen: dict[str, tuple[int, int]] = {}
        self._next_message_s = 0.0
        self._retired: list[tuple[float, SessionKey]] = []
        self._is_closed = False
        self._look()
        self._thread = threading.Thread(target=self._run, name="sessions", daemon=True)
        self._thread.start()

    def put(self, record: SessionRecord) -> None:
        """Writes a record soon."""
        self._enqueue(record.key, msgspec.msgpack.encode(record))

    def remove(self, key: SessionKey) -> None:
        """Takes a record away soon."""
        self._enqueue(key, None)

    def retire(self, key: SessionKey) -> None:
        """Takes the record of a deleted session away once other servers have had time to read it.

        Nothing happens if the session has lived again meanwhile.
        """
        with self._lock:
            self._retired.append((time.monotonic() + _RETIRE_AFTER_S, key))

    def poll(self) -> list[SessionRecord]:
        """What others have written since the last call; at first all that is there."""
        with self._lock:
            news, self._news = self._news, []
        return news

    def close(self, timeout_s: float) -> None:
        """Writes what waits, but no longer than that."""
        self._is_closed = True
        self._work.set()
        self._thread.join(timeout_s)

    def _enqueue(self, key: SessionKey, content: bytes | None) -> None:
        with self._lock:
            self._waiting[key.file_name] = content
            self._waiting.move_to_end(key.file_name)
            if len(self._waiting) > _MOST_WAITING:
                self._waiting.popitem(last=False)
        self._work.set()

    def _run(self) -> None:
        while True:
            self._work.wait(_LOOK_EVERY_S)
            self._work.clear()
            is_closed = self._is_closed
            try:
                self._write()
                self._look()
                self._retire()
            except OSError as error:
                self._report(error)
            if is_closed:
                return

    def _write(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                name, content = self._waiting.popitem(last=False)
            try:
                self._write_one(name, content)
            except OSError:  # a deletion must not be forgotten: it is tried again
                with self._lock:
                    self._waiting.setdefault(name, content)
                raise

    def _write_one(self, name: str, content: bytes | None) -> None:
        path = self._folder / (name + _SUFFIX)
        if content is None:
            path.unlink(missing_ok=True)
            self._seen.pop(path.name, None)
            return
        draft = self._folder / f"{name}.{os.getpid()}.draft"
        try:
            draft.touch(mode=0o600)
            draft.write_bytes(content)
            self._seen[path.name] = _version(draft.stat())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def _report(self, error: OSError) -> None:
        now = time.monotonic()
        if now >= self._next_message_s:
            self._next_message_s = now + _QUIET_S
            _logger.warning("cannot keep sessions in %s: %s", self._folder, error.strerror)

    def _retire(self) -> None:
        now = time.monotonic()
        with self._lock:
            due = [key for due_s, key in self._retired if due_s <= now]
            self._retired = [entry for entry in self._retired if entry[0] > now]
        for key in due:
            path = self._folder / (key.file_name + _SUFFIX)
            if (record := _read(path)) is not None and record.is_deleted:
                path.unlink(missing_ok=True)

    def _look(self) -> None:
        """Reads what is new; what cannot be read is no record."""
        with os.scandir(self._folder) as entries:
            found = [entry for entry in entries if entry.name.endswith(_SUFFIX)]
        for entry in found:
            try:
                stat = entry.stat()
                if self._seen.get(entry.name) == _version(stat) or stat.st_size > _MOST_BYTES:
                    continue
            except FileNotFoundError:
                continue
            self._seen[entry.name] = _version(stat)
            if (record := _read(Path(entry.path))) is not None:
                with self._lock:
                    self._news.append(record)
        names = {entry.name for entry in found}
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}


def _version(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_mtime_ns, stat.st_ino


def read_all(directory: Path) -> list[SessionRecord]:
    """All records of a directory of blocks, in no order. Raises `OSError`."""
    found = map(_read, (directory / FOLDER).glob(f"*{_SUFFIX}"))
    return [record for record in found if record is not None]


def remove_all(directory: Path) -> None:
    """Takes all records away. Raises `OSError`."""
    for path in (directory / FOLDER).glob(f"*{_SUFFIX}"):
        path.unlink(missing_ok=True)


def _read(path: Path) -> SessionRecord | None:
    """What a file says, if it is there and says something."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=SessionRecord)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        _logger.warning("%s is no record of a session: it is passed over", path)
        return None
