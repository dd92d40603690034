"""Looking at a directory or a pool of blocks, and emptying it, without a model."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from artesian.context.base import ContextCacheError
from artesian.context.disk import DiskTier
from artesian.context.host import HostTier
from artesian.context.mover import MoverTier
from artesian.context.sessions import SessionRecord
from artesian.context.sessions.records import read_all, remove_all
from artesian.kvcache.arena import Arena
from artesian.pool import PoolError, pool_stats

_FORMAT_FILE = "FORMAT"
_NO_BOUND = 1 << 62
_POOL = "shm://"
_FLUSH_S = 600.0


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What a tier holds.

    Attributes:
        place: the directory, or the pool's address.
        tier: host or disk.
        used_bytes: what its blocks take there.
        oldest_s, newest_s: when they were saved, in a pool used (Unix time); None without blocks.
    """

    place: str
    tier: str
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


def look(place: Path | str) -> CacheReport:
    """What is in a directory, or in a pool (shm://NAME). Raises `OSError`, `ContextCacheError`."""
    tier = _open(place)
    saved_s = sorted(entry.saved_s for entry in tier.entries())
    ends = (saved_s[0], saved_s[-1]) if saved_s else (None, None)
    return CacheReport(str(place), tier.label, len(saved_s), tier.used_bytes, *ends)


def sessions(path: Path) -> list[SessionReport]:
    """The sessions of `path`, the one used last first. Raises `OSError` or `ContextCacheError`."""
    sizes = {entry.name: entry.num_bytes for entry in _open(path).entries()}
    records = [record for record in read_all(path) if not record.is_deleted]
    records.sort(key=lambda record: -record.used_s)
    return [_session(record, sizes) for record in records]


def flush(place: Path | str) -> int:
    """Deletes all blocks of a directory or a pool (shm://NAME), and a directory's records of
    sessions, for running servers as well; returns how many blocks.

    Raises:
        OSError, ContextCacheError: that is no context cache, or a block could not be deleted.
    """
    tier = _open(place)
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
    if isinstance(tier, DiskTier):
        remove_all(Path(place))
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


def _open(place: Path | str) -> MoverTier:
    if str(place).startswith(_POOL):
        try:
            pool_stats(str(place))  # so that none is made
        except PoolError as error:
            raise ContextCacheError(str(error)) from None
        return HostTier(str(place), _NO_BOUND, Arena(1, 64), 0)
    path = Path(place)
    if not (path / _FORMAT_FILE).is_file():
        raise ContextCacheError(f"{path} is no context cache: name what --context-cache-dir named")
    return DiskTier(path, _NO_BOUND, Arena(1, 64), 0)
