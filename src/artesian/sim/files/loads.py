"""Who reads what: jobs of a simulated load, made up or recorded."""

import csv
import lzma
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class TraceFormatError(Exception):
    """A file is no trace that can be replayed; the message says why."""


class FileRead(NamedTuple):
    """One read, some time after the one before it.

    Attributes:
        think_s: seconds since the same reader had the bytes before these.
        stream: which open file; its upper half says which reader.
    """

    think_s: float
    path: str
    offset: int
    length: int
    file_bytes: int
    stream: int


@dataclass(frozen=True, slots=True)
class Job:
    """Readers that work at the same time.

    Attributes:
        readers: what each of them reads, in order.
        listings: folders and their names.
        begin_s: when it starts.
    """

    name: str
    readers: Sequence[Sequence[FileRead]]
    listings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    begin_s: float = 0.0

    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file that is read."""
        return {read.path: read.file_bytes for reader in self.readers for read in reader}


def read_trace(path: Path, folder: str = "trace://data") -> Job:
    """A recorded job, as CSV, also compressed by xz.

    Columns: `file` (or `path`), `offset`, and `ret`, `count` or `length` in bytes; who reads in
    `worker`, `rank` or `stream` if there are several; `ts_us` or `time_s`, and `dur_us`. A column
    `op` may say what is no read. Between two reads of a reader it thinks as long as was recorded.

    Raises:
        TraceFormatError: columns lack or hold no numbers; there is no read.
        OSError: the file cannot be read.
    """
    opener = lzma.open if path.suffix == ".xz" else Path.open
    try:
        with opener(path, "rt") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, lzma.LZMAError, csv.Error) as error:
        raise TraceFormatError(f"{path} is no table: {error}") from None
    calls = list(_calls(path, rows))
    if not calls:
        raise TraceFormatError(f"{path} has no reads: expected columns file, offset, length")
    sizes: dict[str, int] = defaultdict(int)
    for call in calls:
        sizes[call.name] = max(sizes[call.name], call.offset + call.length)
    readers: dict[str, list[FileRead]] = defaultdict(list)
    ended: dict[str, float] = {}
    numbers: dict[str, int] = {}
    for call in calls:
        number = numbers.setdefault(call.reader, len(numbers) + 1)
        think_s = max(0.0, call.time_s - ended.get(call.reader, calls[0].time_s))
        ended[call.reader] = call.time_s + call.took_s
        stream = (number << 32) | (hash_of(call.name) & 0xFFFFFFFF)
        full = f"{folder}/{call.name}"
        size = sizes[call.name]
        found = FileRead(think_s, full, call.offset, call.length, size, stream)
        readers[call.reader].append(found)
    names = sorted(sizes)
    return Job(path.name.split(".")[0], list(readers.values()), {folder: names})


def hash_of(name: str) -> int:
    """The same in every process."""
    found = 2166136261
    for byte in name.encode():
        found = (found ^ byte) * 16777619 & 0xFFFFFFFF
    return found


class _Call(NamedTuple):
    time_s: float
    took_s: float
    reader: str
    name: str
    offset: int
    length: int


def _calls(path: Path, rows: Sequence[Mapping[str, str]]) -> Iterator[_Call]:
    for number, row in enumerate(rows, start=2):
        if row.get("op", "read") not in ("read", "pread"):
            continue
        name = row.get("file") or row.get("path") or ""
        reader = row.get("worker") or row.get("rank") or row.get("stream") or "0"
        try:
            length = int(row.get("ret") or row.get("length") or row.get("count") or 0)
            offset = int(row.get("offset") or 0)
            time_s = _seconds(row, "ts_us", "time_s")
            took_s = _seconds(row, "dur_us", "dur_s")
        except ValueError as error:
            raise TraceFormatError(f"{path}, line {number}: {error}") from None
        if not name or offset < 0 or length < 0:
            raise TraceFormatError(
                f"{path}, line {number}: expected a table with columns file, offset and length"
            )
        if length:
            yield _Call(time_s, took_s, reader, name.strip("/"), offset, length)


def _seconds(row: Mapping[str, str], micro: str, whole: str) -> float:
    if row.get(micro):
        return float(row[micro]) / 1e6
    return float(row.get(whole) or 0.0)
