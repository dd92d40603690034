"""A cache for files of any store behind fsspec, which finds out how they are read."""

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

__all__ = [
    "BLOCK_BYTES",
    "Access",
    "Advisor",
    "Block",
    "Explanation",
    "FilesError",
    "Prefetch",
    "Unit",
    "Verdict",
    "parts_of",
]
