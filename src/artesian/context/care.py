"""Looking at a directory of blocks, and emptying it, without a model."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from artesian.context.base import ContextCacheError
from artesian.context.disk import DiskTier
from artesian.context.sessions import SessionRecord
from artesian.context.sessions.records import read_all, remove_all
from artesian.kvcache.arena import Arena

_FORMAT_FILE = "FORMAT"
_NO_BOUND = 1 << 62
_FLUSH_S = 600.0


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What a directory holds.

    Attributes:
        used_bytes: what its files take on the disk.
        oldest_s, newest_s: when the blocks were saved (Unix time); None without blocks.
    """

    path: str
    num_blocks: int
    used_bytes: int
    oldest_s: float | None
    newest_s: float | None


@dataclass(frozen=True, slots=True)
class SessionReport:
    """A session of a directory.

    Attributes:
        tenant: "" for requests without a cache salt.
        num_blocks_here: those of its blocks that the directory has; num_bytes: what they take,
            shared ones in full.
    """

    session_id: str
    tenant: str
    num_tokens: int
    num_blocks: int
    num_blocks_here: int
    num_bytes: int
    used_s: float


def look(path: Path) -> CacheReport:
    """What is in `path`. Raises `OSError` or `ContextCacheError`."""
    tier = _open(path)
    saved_s = sorted(entry.saved_s for entry in tier.entries())
    ends = (saved_s[0], saved_s[-1]) if saved_s else (None, None)
    return CacheReport(str(path), len(saved_s), tier.used_bytes, *ends)


def sessions(path: Path) -> list[SessionReport]:
    """The sessions of `path`, the one used last first. Raises `OSError` or `ContextCacheError`."""
    sizes = {entry.name: entry.num_bytes for entry in _open(path).entries()}
    records = [record for record in read_all(path) if not record.is_deleted]
    records.sort(key=lambda record: -record.used_s)
    return [_session(record, sizes) for record in records]


def flush(path: Path) -> int:
    """Deletes all blocks and records of sessions, for running servers as well; returns how many
    blocks.

    Raises:
        OSError, ContextCacheError: that is no context cache, or a block could not be deleted.
    """
    tier = _open(path)
    for entry in tier.entries():
        tier.remove(entry.name)
    num_removed = 0
    until = time.monotonic() + _FLUSH_S
    while tier.num_open and time.monotonic() < until:
        tier.wait(until - time.monotonic())
        num_removed += sum(done.outcome == "removed" for done in tier.poll())
    num_removed += sum(done.outcome == "removed" for done in tier.poll())
    if error := tier.take_error():
        raise OSError(error)
    remove_all(path)
    return num_removed


def _session(record: SessionRecord, sizes: Mapping[bytes, int]) -> SessionReport:
    here = [sizes[name] for name in record.names if name in sizes]
    return SessionReport(
        session_id=record.key.session_id,
        tenant=record.key.tenant,
        num_tokens=record.num_tokens,
        num_blocks=len(record.names),
        num_blocks_here=len(here),
        num_bytes=sum(here),
        used_s=record.used_s,
    )


def _open(path: Path) -> DiskTier:
    if not (path / _FORMAT_FILE).is_file():
        raise ContextCacheError(f"{path} is no context cache: name what --context-cache-dir named")
    return DiskTier(path, _NO_BOUND, Arena(1, 64), 0)
