"""Looking at a directory of blocks, and emptying it, without a model."""

import time
from dataclasses import dataclass
from pathlib import Path

from artesian.context.base import ContextCacheError
from artesian.context.disk import DiskTier
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


def look(path: Path) -> CacheReport:
    """What is in `path`. Raises `OSError` or `ContextCacheError`."""
    tier = _open(path)
    saved_s = sorted(entry.saved_s for entry in tier.entries())
    ends = (saved_s[0], saved_s[-1]) if saved_s else (None, None)
    return CacheReport(str(path), len(saved_s), tier.used_bytes, *ends)


def flush(path: Path) -> int:
    """Deletes all blocks, for running servers as well; returns how many.

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
    return num_removed


def _open(path: Path) -> DiskTier:
    if not (path / _FORMAT_FILE).is_file():
        raise ContextCacheError(f"{path} is no context cache: name what --context-cache-dir named")
    return DiskTier(path, _NO_BOUND, Arena(1, 64), 0)
