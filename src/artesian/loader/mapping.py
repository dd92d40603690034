"""Memory-maps files."""

from mmap import ACCESS_READ, mmap
from pathlib import Path

from artesian.loader.base import CheckpointError


def map_file(path: Path) -> mmap:
    """A read-only map of the whole file. Raises `CheckpointError` when it is missing or empty."""
    try:
        with path.open("rb") as file:
            return mmap(file.fileno(), 0, access=ACCESS_READ)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be loaded: it is empty; download it again") from error
