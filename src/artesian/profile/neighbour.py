"""Reads memory for a share of a core's time, as an attention executor beside a prefill would.

    python -m artesian.profile.neighbour SHARE

Begins at once, ends when its input does, then prints the bytes and the seconds.
"""

import contextlib
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_PERIOD_S = 0.01
_BUFFER_BYTES = 128 << 20
"""More than caches hold."""
_PIECE = 1 << 17
"""Words that are read between two looks at the clock: 1 MiB."""


@dataclass(slots=True)
class Reading:
    """What a neighbour has done: filled in when it has ended."""

    bytes_per_s: float = 0.0


@contextlib.contextmanager
def neighbour(share: float) -> Iterator[Reading]:
    """A process that reads while the body runs; nothing at all for a share of 0.

    Raises:
        RuntimeError: it did not do as it should.
    """
    reading = Reading()
    if share == 0:
        yield reading
        return
    command = [sys.executable, "-m", "artesian.profile.neighbour", str(share)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"a process to read memory did not start: {command}")
            yield reading
            num_bytes, seconds = process.communicate(timeout=10)[0].split()
            reading.bytes_per_s = float(num_bytes) / float(seconds)
        finally:
            process.kill()


def main(share: float) -> None:
    """Reads until the input ends."""
    words = np.ones(_BUFFER_BYTES // 8, np.uint64)
    print("ready", flush=True)
    num_bytes = position = 0
    start_s = time.perf_counter()
    while not select.select([sys.stdin], [], [], 0)[0]:
        begin_s = now_s = time.perf_counter()
        while now_s < begin_s + share * _PERIOD_S:
            piece = words[position : position + _PIECE]
            np.bitwise_or.reduce(piece)
            position = (position + _PIECE) % len(words)
            num_bytes += piece.nbytes
            now_s = time.perf_counter()
        # A piece may outlast the share: the pause makes up for it.
        time.sleep(max(0.0, (now_s - begin_s) * (1 / share - 1)))
    print(num_bytes, time.perf_counter() - start_s, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
