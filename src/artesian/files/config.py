"""Where a store lies and how large it is."""

import os
from dataclasses import dataclass
from pathlib import Path

from artesian.files.base import BLOCK_BYTES
from artesian.files.errors import FilesUsageError
from artesian.machine.sizes import parse_size

DEFAULT_CAPACITY_BYTES = 10 << 30
POLICIES = ("patterns", "lru")
"""Find out how files are read, or let go what was used longest ago."""
_LEAST_BLOCK_BYTES = 4 << 10
_MOST_BLOCK_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """How a process uses a store.

    Attributes:
        directory: where it lies; each user and purpose may have several.
        capacity_bytes: bound of the blocks on disk, for all processes; None leaves it as it is, or
            10 GiB if the store is new; 0 keeps none there (with `pool`).
        pool: address of a memory pool for blocks, `shm://NAME`, before the disk; None for none.
        pool_bytes: bound of the blocks in the pool; None leaves it, or 1 GiB if it is new.
        block_bytes: files are cut into blocks of so many bytes.
        timeout_s: the origin has to answer each request in this time.
        policy: who decides what is read ahead and what goes: one of `POLICIES`.
    """

    directory: Path
    capacity_bytes: int | None = None
    pool: str | None = None
    pool_bytes: int | None = None
    block_bytes: int = BLOCK_BYTES
    timeout_s: float = 60.0
    policy: str = "patterns"


def default_directory() -> Path:
    """`ARTESIAN_FILES_DIR`, or a folder in the user's cache."""
    named = os.environ.get("ARTESIAN_FILES_DIR")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "artesian" / "files"


def make_config(
    *,
    directory: str | os.PathLike[str] | None = None,
    capacity: int | str | None = None,
    pool: str | None = None,
    pool_capacity: int | str | None = None,
    block_size: int | str = BLOCK_BYTES,
    timeout: float = 60.0,
    policy: str = "patterns",
) -> StoreConfig:
    """A config from what people write. Raises `FilesUsageError`."""
    block_bytes = _bytes("block_size", block_size)
    assert block_bytes is not None
    if not _LEAST_BLOCK_BYTES <= block_bytes <= _MOST_BLOCK_BYTES:
        raise FilesUsageError(f"block_size {block_size!r}: choose from 4 KiB to 256 MiB")
    if not timeout > 0:
        raise FilesUsageError(f"timeout {timeout!r}: expected seconds above 0")
    if pool is None and pool_capacity is not None:
        raise FilesUsageError("pool_capacity without pool: name the pool, such as shm://files")
    if policy not in POLICIES:
        raise FilesUsageError(f"policy {policy!r}: choose from {', '.join(POLICIES)}")
    path = default_directory() if directory is None else Path(directory).expanduser()
    capacity_bytes = _bytes("capacity", capacity)
    if capacity_bytes == 0 and pool is None:
        raise FilesUsageError("capacity 0 without pool: there would be no place for blocks")
    return StoreConfig(
        path.absolute(),
        capacity_bytes,
        pool,
        _bytes("pool_capacity", pool_capacity),
        block_bytes,
        float(timeout),
        policy,
    )


def _bytes(name: str, value: int | str | None) -> int | None:
    try:
        parsed = parse_size(value)
    except ValueError as error:
        raise FilesUsageError(f"{name} {value!r}: {error}") from None
    if parsed is None:
        return None
    if not isinstance(parsed, int) or isinstance(parsed, bool) or parsed < 0:
        raise FilesUsageError(f"{name} {value!r}: expected a number of bytes, such as 10GiB")
    return parsed
