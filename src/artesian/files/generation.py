"""Which bytes a file has: generations of files, and names of blocks.

A block's name is a hash of everything that its bytes depend on, the file's generation among it. So
a name never means other bytes, and what an origin overwrites is not found any more.
"""

import contextlib
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from blake3 import blake3

_FORMAT = b"artesian files 1"
_TAGS = (
    *("ETag", "etag", "e_tag", "VersionId", "version_id", "generation"),
    *("md5Hash", "md5", "sha256", "Content-MD5", "Digest"),
)
_TIMES = (
    *("mtime", "LastModified", "last_modified", "Last-Modified"),
    *("updated", "modified", "created"),
)
_COARSE_S = 2.0
_FINE_S = 0.1
"""File systems tell times by the tick of a clock, 10 ms at most."""


class Generation(NamedTuple):
    """A state of a file that an origin told of.

    Attributes:
        text: equal for equal bytes, as far as the origin tells.
        time_s: when the file was changed last, if that is all that `text` rests on.
    """

    text: str
    time_s: float | None = None

    def is_settled(self, now_s: float) -> bool:
        """Whether the next change would show. One within the same tick of the origin's clock
        would not, so what changed just now is not kept."""
        if self.time_s is None:
            return True
        tick_s = _COARSE_S if self.time_s == int(self.time_s) else _FINE_S
        return now_s - self.time_s > tick_s


def generation_of(info: Mapping[str, Any]) -> Generation | None:
    """The generation in what a file system's `info` returned; None if it tells of none.

    A tag (ETag, version) decides if there is one, else all times of change, with the inode where
    there is one; always with the size.
    """
    size = info.get("size")
    tags = [f"{key}={info[key]}" for key in _TAGS if info.get(key)]
    if tags:
        return Generation(f"{size};{';'.join(tags)}")
    times = [key for key in _TIMES if info.get(key) is not None]
    if not times:
        return None
    parts = [f"{key}={info[key]!s}" for key in times]
    if info.get("ino"):
        parts.append(f"ino={info['ino']}")
    known = [seconds for key in times if (seconds := _seconds(info[key])) is not None]
    return Generation(f"{size};{';'.join(parts)}", max(known, default=None))


def block_name(origin: str, path: str, generation: str, block_bytes: int, number: int) -> bytes:
    """The name, 32 bytes, of block `number` of a file in a generation."""
    hasher = blake3(_FORMAT)
    for text in (origin, path, generation):
        encoded = text.encode("utf-8", "surrogatepass")
        hasher.update(len(encoded).to_bytes(8, "little"))
        hasher.update(encoded)
    hasher.update(block_bytes.to_bytes(8, "little"))
    hasher.update(number.to_bytes(8, "little"))
    return hasher.digest()


def _seconds(value: object) -> float | None:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        for parse in (datetime.fromisoformat, parsedate_to_datetime):
            with contextlib.suppress(ValueError):
                return parse(value).timestamp()
    return None
