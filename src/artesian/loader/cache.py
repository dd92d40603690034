"""The user's cache directory: things that are worth keeping between runs and safe to delete."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def cache_dir(kind: str) -> Path:
    """`$ARTESIAN_CACHE_DIR/kind`, by default below `$XDG_CACHE_HOME` or `~/.cache`.

    It may not exist yet.
    """
    own = os.environ.get("ARTESIAN_CACHE_DIR")
    if own:
        return Path(own) / kind
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "artesian" / kind


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that readers see all of it or nothing. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def keep_newest(directory: Path, pattern: str, count: int) -> None:
    """Deletes all but the `count` newest files of a directory that match."""
    with suppress(OSError):
        files = sorted(directory.glob(pattern), key=lambda file: -file.stat().st_mtime)
        for file in files[count:]:
            file.unlink(missing_ok=True)
