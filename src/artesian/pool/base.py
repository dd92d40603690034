"""What the faces of the pool have in common: types, addresses, numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from artesian.machine.sizes import parse_size
from artesian.pool.errors import PoolUsageError

if TYPE_CHECKING:
    from artesian.pool.native import Bytes as Bytes

Key = bytes | str
"""A key: bytes, or text that stands for its UTF-8 bytes."""

_ADDRESS = re.compile(r"(?:shm://)?(?P<name>[A-Za-z0-9_-]{1,64})")


def parse_address(address: str) -> str:
    """The name of the pool at `shm://NAME`; the name alone will do as well.

    Raises:
        PoolUsageError: it is none.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise PoolUsageError(
            f"{address!r} is no address of a pool: write shm://NAME with 1 to 64 letters, digits, "
            "- or _"
        )
    return match["name"]


def parse_bytes(size: int | str | None, least: int = 1) -> int | None:
    """A number of bytes, from `4 << 30` or `"4GiB"`.

    Raises:
        PoolUsageError: it is none, or below `least`.
    """
    try:
        parsed = parse_size(size)
    except ValueError as error:
        raise PoolUsageError(f"size {size!r}: {error}") from None
    if parsed is None:
        return None
    if not isinstance(parsed, int) or parsed < least:
        raise PoolUsageError(f"size {size!r}: expected at least {least} bytes, such as 4GiB")
    return parsed


def end_of_prefix(prefix: bytes) -> bytes | None:
    """The smallest key above all that begin with `prefix`; None if there is none."""
    start = prefix.rstrip(b"\xff")
    return start[:-1] + bytes([start[-1] + 1]) if start else None
