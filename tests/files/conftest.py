"""Stores in directories of their own, over origins that are counted and can be made to fail."""

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from artesian.files import ArtesianFileSystem
from artesian.files.stores import close_all

BLOCK = 64 << 10

MakeFs = Callable[..., ArtesianFileSystem]


class CountingFs(LocalFileSystem):  # type: ignore[misc]
    """Local files, whose requests are counted and may be delayed or fail."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str, int, int]] = []
        self.num_infos = 0
        self.delay_s = 0.0
        self.failure: Exception | None = None
        self.short_by = 0
        self.before_cat: Callable[[], None] = lambda: None

    @property
    def num_bytes(self) -> int:
        """Bytes that were asked for."""
        return sum(end - start for _, start, end in self.requests)

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        self.num_infos += 1
        self._meet()
        found: dict[str, Any] = super().info(path, **kwargs)
        return found

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        self.requests.append((path, start or 0, end or 0))
        self._meet()
        self.before_cat()
        with Path(path).open("rb") as file:
            file.seek(start or 0)
            data = file.read((end or 0) - (start or 0))
        return data[: len(data) - self.short_by]

    def _meet(self) -> None:
        time.sleep(self.delay_s)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder for the origin's files."""
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def origin() -> CountingFs:
    """The file system that has them."""
    return CountingFs()


@pytest.fixture
def make_fs(tmp_path: Path, origin: CountingFs) -> Iterator[MakeFs]:
    """Opens a store over the origin, all with the same directory unless told otherwise."""

    def make(**options: Any) -> ArtesianFileSystem:
        chosen: dict[str, Any] = {
            "fs": origin,
            "directory": tmp_path / "store",
            "capacity": "16MiB",
        }
        chosen |= {"block_size": BLOCK, "skip_instance_cache": True, "timeout": 5.0}
        chosen["policy"] = "lru"  # reads nothing ahead, so that bytes can be counted
        return ArtesianFileSystem(**(chosen | options))

    yield make
    close_all()


def write(path: Path, num_bytes: int, *, age_s: float = 0.2) -> bytes:
    """Makes a file of random bytes. A store does not keep one that changed just now, so wait."""
    data = secrets.token_bytes(num_bytes)
    path.write_bytes(data)
    time.sleep(age_s)
    return data


def disk_bytes(directory: Path) -> int:
    """What the blocks of a store take, as the system counts it."""
    paths = [*directory.glob("blocks/*/*"), *directory.glob("partial/*")]
    total = 0
    for path in paths:
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total
