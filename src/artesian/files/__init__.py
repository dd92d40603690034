"""A cache for files of any store behind fsspec, which finds out how they are read.

`fsspec.open("artesian::s3://bucket/key")` reads through it.
"""

from artesian.files.base import (
    BLOCK_BYTES,
    Access,
    Advisor,
    Block,
    Explanation,
    FilesError,
    Prefetch,
    Unit,
    Verdict,
    parts_of,
)
from artesian.files.errors import ChangedError, FilesUsageError, NotCachedError, OriginError
from artesian.files.filesystem import ArtesianFileSystem, register

__all__ = [
    "BLOCK_BYTES",
    "Access",
    "Advisor",
    "ArtesianFileSystem",
    "Block",
    "ChangedError",
    "Explanation",
    "FilesError",
    "FilesUsageError",
    "NotCachedError",
    "OriginError",
    "Prefetch",
    "Unit",
    "Verdict",
    "parts_of",
    "register",
]

register()
