"""What is in a store, from outside: nobody joins it for that, and none is made."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from artesian.files.errors import FilesUsageError
from artesian.files.flight import ByteLocks
from artesian.files.index import Index
from artesian.files.rules import Rule, Rules

_INDEX = "index.sqlite"


@dataclass(frozen=True, slots=True)
class PlaceReport:
    """A place for blocks: `disk` or `memory`, what they take there and may take."""

    label: str
    used_bytes: int
    capacity_bytes: int
    num_blocks: int


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What is in a store.

    Attributes:
        num_files: files that were opened, with blocks or without.
        index_bytes: what the index takes, beside the blocks.
        num_processes: those that use it now.
        counts: since the store was made, of all processes: `hits` and `misses` (blocks),
            `read_bytes`, `origin_bytes`, `origin_requests`, `prefetched`, `evictions`, ...
    """

    directory: str
    places: tuple[PlaceReport, ...]
    num_files: int
    index_bytes: int
    num_processes: int
    rules: tuple[Rule, ...]
    counts: Mapping[str, float]

    @property
    def hit_ratio(self) -> float:
        """Part of the blocks asked for that were there; 0 before the first."""
        num_blocks = self.counts.get("hits", 0) + self.counts.get("misses", 0)
        return self.counts.get("hits", 0) / num_blocks if num_blocks else 0.0


@dataclass(frozen=True, slots=True)
class FolderReport:
    """What was read of a folder's own files: blocks that were there or not, bytes fetched."""

    path: str
    num_hits: int
    num_misses: int
    origin_bytes: int


def look(directory: Path) -> StoreReport:
    """The store in a directory. Raises `FilesUsageError` if there is none."""
    with _index(directory) as index:
        query = (
            "SELECT places.place, used, capacity, count(name) FROM places "
            "LEFT JOIN blocks USING (place) GROUP BY places.place ORDER BY places.place"
        )
        places = tuple(PlaceReport(*row) for row in index.rows(query) if row[2] or row[3])
        num_files = index.rows("SELECT count(*) FROM files")[0][0]
        counts = index.rows("SELECT name, value FROM counts WHERE path = ''")
        rules = tuple(Rules(index).all)
        owners = index.rows("SELECT value FROM meta WHERE key = 'owners'")
    sizes = (path.stat().st_size for path in directory.glob(f"{_INDEX}*"))
    num_processes = _living(directory, owners[0][0] if owners else 0)
    return StoreReport(
        str(directory), places, num_files, sum(sizes), num_processes, rules, dict(counts)
    )


def folders(directory: Path) -> list[FolderReport]:
    """The folders that were read most. Raises `FilesUsageError` if there is no store."""
    query = (
        "SELECT path, sum(value) FILTER (WHERE name = 'hits'), "
        "sum(value) FILTER (WHERE name = 'misses'), "
        "sum(value) FILTER (WHERE name = 'origin_bytes') "
        "FROM counts WHERE path != '' GROUP BY path ORDER BY sum(value) DESC"
    )
    with _index(directory) as index:
        rows = index.rows(query)
    return [FolderReport(path, *(int(value or 0) for value in values)) for path, *values in rows]


@contextlib.contextmanager
def _index(directory: Path) -> Iterator[Index]:
    if not (directory / "FORMAT").is_file() or not (directory / _INDEX).is_file():
        raise FilesUsageError(
            f"{directory} is no store of files: name the directory that programs read through"
        )
    index = Index(directory / _INDEX)
    try:
        yield index
    finally:
        index.close()


def _living(directory: Path, last: int) -> int:
    """Processes that hold their lock, among the latest."""
    locks = ByteLocks(directory / "members")
    try:
        return sum(not locks.is_free(number) for number in range(max(1, last - 1023), last + 1))
    finally:
        locks.close()
