"""Cache traces: real ones in the formats of their authors, and one whose pattern changes."""

import csv
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in order; keys are numbered from 0, all objects are of one size."""

    name: str
    keys: Keys

    @property
    def unique(self) -> int:
        return int(self.keys.max()) + 1

    def shortened(self, most: int | None) -> "Trace":
        """The first so many requests."""
        return self if most is None else Trace(self.name, _number(self.keys[:most]))


def real(directory: Path) -> list[Trace]:
    """All known traces of `directory`, in the order of their names."""
    found = []
    for path in sorted(directory.glob("*.xz")):
        name = path.name.split(".")[0]
        reader = next((read for prefix, read in READERS.items() if name.startswith(prefix)), None)
        if reader is not None:
            found.append(reader(name, path))
    return found


def phases(
    num_phases: int = 8, length: int = 50_000, working_set: int = 1_200, seed: int = 1
) -> Trace:
    """Phases that alternately suit LRU and LFU, in the manner of LeCaR's synthetic traces (2018).

    LRU-friendly: working sets that follow each other, some keys of which were in earlier ones: what
    was frequent is of no more use. LFU-friendly: a hot set whose keys are asked for less often than
    the keys of a loop that is too large for the cache pass by.
    """
    random = np.random.default_rng(seed)
    universe, loop, sets = 8_000, 8_000, 5
    parts: list[NDArray[np.int64]] = []
    for phase in range(num_phases):
        if phase % 2 == 0:
            for _ in range(sets):
                keys = random.choice(universe, working_set, replace=False)
                parts.append(random.choice(keys, length // sets).astype(np.int64))
        else:
            part = universe + np.arange(length, dtype=np.int64) % loop
            hot = random.random(length) < 0.4
            first = universe + loop + phase * working_set
            part[hot] = first + random.integers(0, working_set, int(hot.sum()))
            parts.append(part)
    return Trace("phases", _number(np.concatenate(parts)))


def _number(keys: NDArray[np.generic]) -> Keys:
    numbers: Keys = np.unique(keys, return_inverse=True)[1].astype(np.uint32)
    return numbers


def _arc(name: str, path: Path) -> Trace:
    with lzma.open(path, "rt") as file:
        rows = np.array([line.split()[:2] for line in file], dtype=np.int64)
    starts, counts = rows[:, 0], rows[:, 1]
    ends = np.cumsum(counts)
    within = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
    return Trace(name, _number(np.repeat(starts, counts) + within))


def _big_endian(name: str, path: Path) -> Trace:
    with lzma.open(path) as file:
        return Trace(name, _number(np.frombuffer(file.read(), dtype=">u4")))


def _lines(name: str, path: Path) -> Trace:
    with lzma.open(path, "rt") as file:
        numbers = [int(line) for line in file if line.strip().isdigit()]
    return Trace(name, _number(np.array(numbers)))


def _adaptsize(name: str, path: Path) -> Trace:
    with lzma.open(path, "rt") as file:
        rows = np.array([line.split() for line in file], dtype=np.int64)
    return Trace(name, _number(rows[:, 1]))


def _column(name_of_column: str) -> Callable[[str, Path], Trace]:
    def read(name: str, path: Path) -> Trace:
        with lzma.open(path, "rt") as file:
            column = [row[name_of_column] for row in csv.DictReader(file)]
        return Trace(name, _number(np.array(column)))

    return read


READERS: dict[str, Callable[[str, Path], Trace]] = {
    "arc_": _arc,
    "cloudphysics_io": _column("lbn"),
    "cloudphysics_w106": _big_endian,
    "cache2k_": _big_endian,
    "adaptsize_": _adaptsize,
    "lirs_": _lines,
    "cachelib_": _column("block_id"),
}
