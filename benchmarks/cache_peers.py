"""What libcachesim's algorithms hit on a trace: `cache_peers.py KEYS CAPACITY...` prints JSON.

A program of its own, as the library ends the process when it does not like a parameter.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import libcachesim
import numpy as np
from numpy.typing import NDArray

PEERS = ("LRU", "LFU", "ARC", "S3FIFO", "Sieve", "LeCaR", "Belady")
REQUEST = np.dtype([("time", "<u4"), ("key", "<u8"), ("bytes", "<u4"), ("next", "<i8")])


def main() -> None:
    keys = np.fromfile(sys.argv[1], dtype="<u4")
    capacities = [int(argument) for argument in sys.argv[2:]]
    with TemporaryDirectory(prefix="artesian-bench-") as directory:
        path = Path(directory) / "trace.oracleGeneral"
        requests(keys).tofile(path)
        ratios = {
            capacity: {name: hit_ratio(name, path, capacity) for name in PEERS}
            for capacity in capacities
        }
    print("\n" + json.dumps(ratios))


def requests(keys: NDArray[np.uint32]) -> NDArray[np.void]:
    """The trace in the library's format: every request tells when its key comes next."""
    rows = np.zeros(len(keys), REQUEST)
    rows["time"] = np.arange(len(keys))
    rows["key"] = keys.astype(np.uint64) + 1
    rows["bytes"] = 1
    order = np.argsort(keys, kind="stable")
    follows = keys[order][1:] == keys[order][:-1]
    rows["next"] = -1
    rows["next"][order[:-1][follows]] = order[1:][follows]
    return rows


def hit_ratio(name: str, path: Path, capacity: int) -> float:
    reader = libcachesim.TraceReader(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    options: dict[str, float] = {"hashpower": 20}
    if name == "S3FIFO":
        # Its small queue must have room for one object.
        options["small_size_ratio"] = max(0.1, 1.01 / capacity)
    cache = getattr(libcachesim, name)(capacity, **options)
    return 1 - float(cache.process_trace(reader)[0])


if __name__ == "__main__":
    main()
