"""Reading through the cache for files: warm beside local files and fsspec's caches, cold by many.

    make bench-files_store
    make bench-files_store ARGS='--rounds 3'

Everything lies in the system's memory, so that programs are measured and not disks. Ours believes
for a minute what the origin said; fsspec's caches never ask. Then eight processes read one file at
once, each from nothing, and the bytes that the origin gave are counted.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

import report
from artesian.files import ArtesianFileSystem
from artesian.files.stores import close_all
from machine import describe
from report import Row

OURS = "artesian"
LOCAL = "local"
PEERS = ("filecache", "blockcache")
NUM_SMALL = 500
SMALL_BYTES = 3000
LARGE_BYTES = 64 << 20
PIECE_BYTES = 1 << 20
NUM_READERS = 8
console = report.make_console()


class CountedFs(LocalFileSystem):  # type: ignore[misc]
    """An origin that tells how many bytes it gave, and takes 30 ms for each request."""

    cachable = False
    num_bytes = 0

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        time.sleep(0.03)
        data: bytes = super().cat_file(path, start, end, **kwargs)
        self.num_bytes += len(data)
        return data


def read(fs: Any, path: str) -> bytes:
    with fs.open(path) as file:
        data: bytes = file.read()
        return data


def read_in_pieces(fs: Any, path: str) -> None:
    with fs.open(path) as file:
        while file.read(PIECE_BYTES):
            pass


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def warm(directory: Path, num_rounds: int) -> dict[tuple[str, str], list[float]]:
    """Seconds by load and reader, one number a round."""
    small = [str(directory / f"{number}") for number in range(NUM_SMALL)]
    for path in small:
        Path(path).write_bytes(os.urandom(SMALL_BYTES))
    large = str(directory / "large")
    Path(large).write_bytes(os.urandom(LARGE_BYTES))
    time.sleep(0.2)
    where = {"directory": directory / "store", "capacity": 4 * LARGE_BYTES, "check": 60}
    systems = {
        OURS: fsspec.filesystem("artesian", target_protocol="file", **where),
        LOCAL: fsspec.filesystem("file"),
    }
    for peer in PEERS:
        storage = str(directory / peer)
        systems[peer] = fsspec.filesystem(peer, target_protocol="file", cache_storage=storage)
    loads: dict[str, Callable[[Any], object]] = {
        "small": lambda fs: [read(fs, path) for path in small],
        "whole": lambda fs: read(fs, large),
        "pieces": lambda fs: read_in_pieces(fs, large),
    }
    found: dict[tuple[str, str], list[float]] = {}
    for fs in systems.values():
        for load in loads.values():
            load(fs)
    for _ in range(num_rounds):
        for name, load in loads.items():
            for system, fs in systems.items():
                found.setdefault((name, system), []).append(timed(lambda: load(fs)))  # noqa: B023
    close_all()
    return found


def cold_reader(directory: str, path: str, start: Any, given: Any) -> None:
    origin = CountedFs()
    fs = ArtesianFileSystem(fs=origin, directory=directory, capacity=4 * LARGE_BYTES)
    _ = fs.store
    start.wait()
    assert read(fs, path) == Path(path).read_bytes()
    given.put(origin.num_bytes)


def cold(directory: Path) -> float:
    """Bytes that the origin gave to many readers of one file, over the file's."""
    large = directory / "large"
    context = multiprocessing.get_context("spawn")
    start, given = context.Barrier(NUM_READERS), context.Queue()
    arguments = (str(directory / "cold"), str(large), start, given)
    readers = [context.Process(target=cold_reader, args=arguments) for _ in range(NUM_READERS)]
    for reader in readers:
        reader.start()
    total = sum(given.get(timeout=100) for _ in readers)
    for reader in readers:
        reader.join()
    return float(total / LARGE_BYTES)


def row(
    found: dict[tuple[str, str], list[float]],
    load: str,
    unit: tuple[str, Callable[[float], float]],
    baseline: str,
    target: float,
) -> Row:
    """Ours beside a baseline: rates, so that more is better."""
    rates = {
        system: [unit[1](seconds) for seconds in rounds]
        for (name, system), rounds in found.items()
        if name == load
    }
    medians = {system: statistics.median(rate) for system, rate in rates.items()}
    subjects = {
        "small": f"{NUM_SMALL} files of {SMALL_BYTES} bytes",
        "whole": f"{LARGE_BYTES >> 20} MiB in one read",
        "pieces": f"{LARGE_BYTES >> 20} MiB in reads of {PIECE_BYTES >> 20} MiB",
    }
    return Row(
        subject=subjects[load],
        metric="warm",
        value=medians[OURS],
        unit=unit[0],
        baseline=baseline,
        baseline_value=medians[baseline],
        target=target,
        values=medians,
        spread={system: (min(rate), max(rate)) for system, rate in rates.items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    with TemporaryDirectory(prefix="artesian-bench-", dir="/dev/shm") as directory:
        found = warm(Path(directory), options.rounds)
        times_given = cold(Path(directory))
    files = ("files/s", lambda seconds: NUM_SMALL / seconds)
    gigabytes = ("GB/s", lambda seconds: LARGE_BYTES / seconds / 1e9)
    rows = [
        row(found, "small", files, "filecache", 3.0),
        row(found, "whole", gigabytes, LOCAL, 0.7),
        row(found, "pieces", gigabytes, LOCAL, 0.7),
        Row(
            subject=f"{LARGE_BYTES >> 20} MiB, {NUM_READERS} processes at once",
            metric="cold, bytes asked of the origin",
            value=times_given,
            unit="times the file",
            baseline="once",
            baseline_value=1.0,
            better="less",
            target=1.0,
            values={OURS: times_given},
        ),
    ]
    report.print_table("Files through the cache", rows, [OURS, LOCAL, *PEERS], console)
    extra: dict[str, object] = {"rounds": options.rounds}
    console.print(f"written to {report.write('files-store', rows, machine, extra)}")


if __name__ == "__main__":
    main()
