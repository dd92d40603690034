"""Finished traces as lines of JSON in a bounded number of files, written by a thread of its own."""

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

import msgspec

from artesian.cluster.traces import Trace

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 4 << 20
MAX_FILES = 8
MAX_QUEUED = 1024
CLOSE_TIMEOUT_S = 2.0
SUFFIX = ".jsonl"


def default_directory() -> Path:
    """Where traces of this user's servers are kept."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "artesian" / "traces"


class TraceSink(Protocol):
    """Where finished traces go; called by one thread, which survives whatever it raises."""

    def write(self, trace: Trace) -> None:
        """Takes one trace."""

    def flush(self) -> None:
        """Nothing more comes for the moment."""

    def close(self) -> None:
        """Nothing more comes."""


class TraceFiles:
    """Appends traces to files that are named by time and process; the oldest files go.

    Servers may share a directory: all of them together keep `max_files`.
    """

    def __init__(
        self,
        directory: Path,
        max_file_bytes: int = MAX_FILE_BYTES,
        max_files: int = MAX_FILES,
    ) -> None:
        self.directory = directory
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files
        self._file: IO[bytes] | None = None
        self._num_bytes = 0

    def write(self, trace: Trace) -> None:
        """Writes one line. Raises `OSError`."""
        line = msgspec.json.encode(trace) + b"\n"
        if self._file is None or self._num_bytes + len(line) > self._max_file_bytes:
            self._open_next()
        assert self._file is not None
        self._file.write(line)
        self._num_bytes += len(line)

    def flush(self) -> None:
        """What was written can be read by others. Raises `OSError`."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Ends the current file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open_next(self) -> None:
        self.close()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.directory / f"{time.time_ns() // 1000:020d}-{os.getpid()}{SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(descriptor, "ab")
        self._num_bytes = 0
        for old in trace_files(self.directory)[: -self._max_files]:
            with contextlib.suppress(FileNotFoundError):
                old.unlink()


def trace_files(directory: Path) -> list[Path]:
    """The files of traces, oldest first; none if there is no such directory."""
    return sorted(path for path in directory.glob(f"*{SUFFIX}") if path.is_file())


def read_traces(directory: Path) -> Iterator[Trace]:
    """The traces that are kept, newest first; lines that are cut or damaged are left out.

    Raises:
        OSError: a file cannot be read.
    """
    decoder = msgspec.json.Decoder(Trace)
    for path in reversed(trace_files(directory)):
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            continue  # another server has just removed it
        for line in reversed(lines):
            with contextlib.suppress(msgspec.DecodeError):
                yield decoder.decode(line)


class Sinks:
    """Hands finished traces to their sinks on a thread, so that requests wait for none of them.

    When the thread falls behind, traces are dropped and counted. A sink that fails is told of once
    and then tried again with the next trace.
    """

    def __init__(self, sinks: Sequence[TraceSink]) -> None:
        self.num_dropped = 0
        self._sinks = sinks
        self._queue: queue.Queue[Trace | None] = queue.Queue(MAX_QUEUED)
        self._failed: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def put(self, trace: Trace) -> None:
        """Takes a trace that nobody changes any more."""
        try:
            self._queue.put_nowait(trace)
        except queue.Full:
            self.num_dropped += 1

    def close(self) -> None:
        """Lets what is queued be written, for a bounded time."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=CLOSE_TIMEOUT_S)
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while (trace := self._queue.get()) is not None:
            for index, sink in enumerate(self._sinks):
                self._give(index, sink, trace)
        for sink in self._sinks:
            with contextlib.suppress(Exception):
                sink.close()

    def _give(self, index: int, sink: TraceSink, trace: Trace) -> None:
        try:
            sink.write(trace)
            if self._queue.empty():
                sink.flush()
            self._failed.discard(index)
        except Exception as error:
            if index not in self._failed:
                logger.warning("traces cannot be kept: %s", error)
            self._failed.add(index)
