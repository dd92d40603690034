"""A pool under clients that are killed all the time: memory stays flat, nothing is damaged.

    make soak-pool     ARGS='--minutes 1' shortens it

Four processes put, read, delete and let expire keys of a store with a quota, and use a cache, a
tree and transactions. Every second one of them is killed by SIGKILL and another one started. At the
end the pool is checked by a client that is alone in it.
"""

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import report
from artesian import Pool
from artesian.pool import PoolError, PoolFullError, QuotaExceededError, Transaction
from machine import describe
from report import Row

NUM_CLIENTS = 4
NUM_KEYS = 2_000
NUM_ACCOUNTS = 8
QUOTA = 24 << 20
SAMPLE_S = 5.0


@dataclass(slots=True)
class Sample:
    """The pool at one moment."""

    seconds: float
    used_bytes: int
    quota_used_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    console = report.make_console()
    address = f"shm://soak-{os.getpid()}"
    with Pool(address, size="160MiB", nodes=3, replicas=options.replicas, lease_ms=2000) as pool:
        try:
            rows = soak(pool, address, options.minutes * 60, console.print)
        finally:
            Pool.remove(address)
    report.print_table(f"{options.minutes:g} minutes, a kill a second", rows, ["ours"], console)
    console.print(f"written to {report.write('pool-soak', rows, describe())}")
    if not all(row.met in (None, True) for row in rows):
        sys.exit(1)


def soak(pool: Pool, address: str, seconds: float, say: Callable[[str], None]) -> list[Row]:
    """Runs the load and returns what came of it."""
    store = pool.store("soak", quota=QUOTA, ttl=20.0)
    for account in range(NUM_ACCOUNTS):
        store.put(f"account {account}", (1000).to_bytes(8, "little"), ttl=float("inf"))
    started = time.monotonic()
    workers = [start(address) for _ in range(NUM_CLIENTS)]
    samples: list[Sample] = []
    kills = 0
    try:
        while (now := time.monotonic() - started) < seconds:
            time.sleep(1.0)
            victim = random.randrange(NUM_CLIENTS)
            if workers[victim].poll() is not None:
                raise SystemExit(f"a client ended by itself with {workers[victim].returncode}")
            workers[victim].send_signal(signal.SIGKILL)
            workers[victim].wait()
            workers[victim] = start(address)
            kills += 1
            if not samples or now - samples[-1].seconds >= SAMPLE_S:
                samples.append(look(pool, now))
                used = samples[-1].used_bytes >> 20
                say(f"{now:5.0f} s: {used} MiB of blocks in use, {kills} clients killed")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return conclude(pool, samples, kills)


def look(pool: Pool, seconds: float) -> Sample:
    stats = pool.stats()
    [namespace] = [known for known in stats.namespaces if known.name == "soak"]
    return Sample(seconds, stats.capacity_bytes - stats.free_bytes, namespace.used_bytes)


def conclude(pool: Pool, samples: list[Sample], kills: int) -> list[Row]:
    """Waits until the dead are recovered, then checks."""
    deadline = time.monotonic() + 30
    while len(pool.stats().clients) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    store = pool.store("soak")
    total = sum(
        int.from_bytes(store.get(f"account {n}") or b"", "little") for n in range(NUM_ACCOUNTS)
    )
    found = pool.check()
    errors = [finding for finding in found.findings if finding.severity == "error"]
    for finding in found.findings:
        if finding.severity != "note":
            print(finding, file=sys.stderr)
    half = len(samples) // 2
    early = max((sample.used_bytes for sample in samples[: half or 1]), default=0)
    late = max((sample.used_bytes for sample in samples[half:]), default=0)
    quota = max((sample.quota_used_bytes for sample in samples), default=0)
    return [
        _row("clients killed", kills, ""),
        _row("most blocks in use, second half over first", late / max(1, early), "", 1.0, 1.25),
        _row("most bytes under the quota", quota / QUOTA, "of it", 1.0, 1.1),
        _row("money in the accounts", total / (1000 * NUM_ACCOUNTS), "of it", 1.0, 1.0),
        _row("errors that the check finds", len(errors) + 1, "+1", 1.0, 1.0),
        _row("leaked bytes", found.leaked_bytes + 1, "+1", 1.0, 1.0),
    ]


def _row(
    metric: str, value: float, unit: str, bound: float | None = None, target: float | None = None
) -> Row:
    return Row(
        subject="soak",
        metric=metric,
        value=value,
        unit=unit,
        baseline=None if bound is None else "bound",
        baseline_value=bound,
        better="less",
        target=target,
        values={"ours": value},
    )


def start(address: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, "--worker", address])


def work(address: str) -> None:
    """One client, until it is killed."""
    rng = random.Random(os.getpid())
    with Pool(address, create=False) as pool:
        store = pool.store("soak")
        cache = pool.cache("soak cache", "8MiB")
        tree = pool.tree("soak tree")
        for count in itertools.count():
            key = f"key {rng.randrange(NUM_KEYS)}"
            value = rng.randbytes(rng.choice((20, 200, 2_000, 40_000)))
            try:
                if rng.random() < 0.7:
                    store.put(key, value, ttl=rng.choice((1.0, 5.0, 60.0)))
                else:
                    store.delete(key)
                cache.put(key, value[:2_000])
                cache.get(key)
                tree.put(key, value[:200])
                if rng.random() < 0.3:
                    tree.delete(key)
                move(pool, rng)
            except (QuotaExceededError, PoolFullError):
                store.delete(key)
            except PoolError as error:
                raise SystemExit(f"client {os.getpid()}: {error}") from error
            if count % 50 == 49:
                time.sleep(0.02)


def move(pool: Pool, rng: random.Random) -> None:
    """Moves money between two accounts."""
    store = pool.store("soak")
    source, target = (f"account {n}" for n in rng.sample(range(NUM_ACCOUNTS), 2))
    wanted = rng.randrange(20)

    def body(transaction: Transaction) -> None:
        held = int.from_bytes(transaction.get(store, source) or b"", "little")
        other = int.from_bytes(transaction.get(store, target) or b"", "little")
        amount = min(held, wanted)
        forever = float("inf")
        transaction.put(store, source, (held - amount).to_bytes(8, "little"), ttl=forever)
        transaction.put(store, target, (other + amount).to_bytes(8, "little"), ttl=forever)

    pool.transact(body)


if __name__ == "__main__":
    main()
