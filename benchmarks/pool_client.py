"""One Python client of a store: reads and writes for a while and prints operations per second.

Run by `pool.py` as a process of its own:

    python benchmarks/pool_client.py artesian|redis|memcached ADDRESS KEYS VALUE_BYTES SECONDS
"""

import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

Get = Callable[[bytes], Any]
Put = Callable[[bytes, bytes], Any]
BATCH = 256
NUM_NAMES = 4096


def artesian(address: str) -> tuple[Get, Put]:
    from artesian.pool import Pool

    store = Pool(address, size="1GiB").store()
    return store.get, store.put


def redis(address: str) -> tuple[Get, Put]:
    from redis import Redis

    client = Redis(unix_socket_path=address)
    return client.get, client.set


def memcached(address: str) -> tuple[Get, Put]:
    from pymemcache.client.base import Client

    client = Client(address)
    return client.get, client.set


def rate(work: Callable[[bytes], Any], names: list[bytes], seconds: float) -> float:
    """Calls per second."""
    start = time.perf_counter()
    done = 0
    while True:
        at = done % len(names)
        for name in names[at : at + BATCH]:
            work(name)
        done += BATCH
        passed = time.perf_counter() - start
        if passed >= seconds:
            return done / passed


def main() -> None:
    kind, address, keys, value_bytes, seconds = sys.argv[1:]
    get, put = {"artesian": artesian, "redis": redis, "memcached": memcached}[kind](address)
    value = b"v" * int(value_bytes)
    generator = random.Random(1)
    names = [b"key:%012d" % generator.randrange(int(keys)) for _ in range(NUM_NAMES)]
    for name in names:
        put(name, value)
    rates = {
        "get": rate(get, names, float(seconds)),
        "set": rate(lambda name: put(name, value), names, float(seconds)),
    }
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
