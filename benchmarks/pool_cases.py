"""What is measured in every round."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pool_load
import pool_peers as peers
from machine import ROOT
from pool_load import LoadError, Report, Shape

WORKLOADS = ("a", "b", "c", "d", "f")
CLIENTS = (1, 2, 4)
SMALL = Shape(keys=100_000, value_bytes=100)
REPLICATED = Shape(keys=100_000, value_bytes=100, replicas=2, nodes=2)
ORDERED = Shape(keys=100_000, value_bytes=100, tree=True)
BATCH = 64
BATCHED = ("a", "c")
PYTHON_KEYS = 100_000
PYTHON_PEERS = ("artesian", "redis", "memcached")


@dataclass(frozen=True, slots=True)
class Size:
    """Values of one size, with fewer keys the larger they are."""

    name: str
    shape: Shape
    redis_requests: int


SIZES = (
    Size("1 KiB", Shape(keys=100_000, value_bytes=1 << 10), 10_000),
    Size("64 KiB", Shape(keys=4_000, value_bytes=64 << 10), 5_000),
    Size("4 MiB", Shape(keys=64, value_bytes=4 << 20), 150),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    seconds: float
    rounds: int
    directory: Path

    def requests(self, per_second: int) -> int:
        """Requests for about one load's time."""
        return max(1_000, int(per_second * self.seconds))


@dataclass(slots=True)
class Measured:
    """Every figure's rounds, by name; and the reports of loads, for what else is in them."""

    rounds: dict[str, list[float]] = field(default_factory=dict)
    reports: dict[str, list[Report]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, value: float) -> None:
        self.rounds.setdefault(name, []).append(value)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def median(self, name: str) -> float | None:
        """None of what was not measured."""
        rounds = self.rounds.get(name)
        return statistics.median(rounds) if rounds else None

    def spread(self, **names: str) -> dict[str, tuple[float, float]]:
        """Lowest and highest round of the figures, by another name."""
        found = {name: self.rounds.get(figure) for name, figure in names.items()}
        return {name: (min(rounds), max(rounds)) for name, rounds in found.items() if rounds}


Case = Callable[[], None]


def small_case(plan: Plan, stack: ExitStack, measured: Measured) -> Case:
    """YCSB on small values by one and several clients, and the peers' own load generators."""
    pool = stack.enter_context(pool_load.filled_pool(SMALL))
    other = stack.enter_context(pool_load.filled_pool(REPLICATED))
    redis = _peer(plan, stack, measured, "redis-server")
    memcached = _peer(plan, stack, measured, "memcached")

    def load(name: str, pool: str, shape: Shape, workload: str, clients: int) -> None:
        reports = pool_load.run(pool, shape, workload, clients, plan.seconds)
        measured.add(name, pool_load.ops_per_s(reports))
        measured.reports.setdefault(name, []).extend(reports)

    def case() -> None:
        for workload in WORKLOADS:
            for clients in CLIENTS:
                load(f"{workload} x{clients}", pool, SMALL, workload, clients)
            load(f"{workload} r2", other, REPLICATED, workload, 1)
        for workload in BATCHED:
            reports = pool_load.run(pool, SMALL, workload, 1, plan.seconds, batch=BATCH)
            measured.add(f"{workload} batch", pool_load.ops_per_s(reports))
        if redis:
            _redis_case(plan, redis, measured)
        if memcached:
            rates = peers.memcached_rates(memcached, plan.requests(10_000))
            for name, rate in rates.items():
                measured.add(f"memcached {name}", rate)
            size = peers.memcached_value_bytes(memcached)
            measured.note(f"memcslap's keys and values have {size:.0f} bytes, not 116")

    return case


def _redis_case(plan: Plan, path: Path, measured: Measured) -> None:
    keys, size = SMALL.keys, SMALL.value_bytes
    rates = peers.redis_rates(path, keys, size, plan.requests(15_000))
    for name, value in rates.items():
        measured.add(f"redis {name}", value)
    for clients in peers.PIPELINE_CLIENTS:
        requests = plan.requests(200_000)
        rates = peers.redis_rates(path, keys, size, requests, clients, peers.PIPELINE)
        for name in ("set", "get"):
            measured.add(f"redis -P 16 x{clients} {name}", rates[name])


def tree_case(plan: Plan, stack: ExitStack, measured: Measured) -> Case:
    """YCSB-E on the ordered index, beside a sorted set of redis."""
    pool = stack.enter_context(pool_load.filled_pool(ORDERED))
    redis = _peer(plan, stack, measured, "redis-server")
    if redis:
        peers.redis_fill_sorted(redis, ORDERED.keys, ORDERED.value_bytes)

    def case() -> None:
        for clients in CLIENTS:
            reports = pool_load.run(pool, ORDERED, "e", clients, plan.seconds)
            measured.add(f"e x{clients}", pool_load.ops_per_s(reports))
            measured.reports.setdefault(f"e x{clients}", []).extend(reports)
        if redis:
            requests = plan.requests(5_000)
            rates = peers.redis_sorted_rates(redis, ORDERED.keys, ORDERED.value_bytes, requests)
            for name, rate in rates.items():
                measured.add(f"redis sorted {name}", rate)

    return case


def large_case(plan: Plan, size: Size, stack: ExitStack, measured: Measured) -> Case:
    """Reads and updates of larger values, beside redis and memcpy."""
    redis = _peer(plan, stack, measured, "redis-server")
    try:
        pool = stack.enter_context(pool_load.filled_pool(size.shape))
    except LoadError as error:
        measured.note(f"{size.name}: {error}")
        return lambda: None
    shape = size.shape

    def case() -> None:
        for workload in ("a", "c"):
            reports = pool_load.run(pool, shape, workload, 1, plan.seconds)
            for kind, costs in reports[0]["kinds"].items():
                measured.add(f"{size.name} {kind}", shape.value_bytes / costs["mean_ns"])
        sizes = {"keys": shape.keys, "value-bytes": shape.value_bytes}
        copied = pool_load.call("memcpy", "-", seconds=plan.seconds / 2, **sizes)
        measured.add(f"{size.name} memcpy read", copied["read_bytes_per_s"] / 1e9)
        measured.add(f"{size.name} memcpy update", copied["write_bytes_per_s"] / 1e9)
        if redis:
            requests = max(50, int(size.redis_requests * plan.seconds))
            rates = peers.redis_rates(redis, shape.keys, shape.value_bytes, requests)
            for name, kind in (("get", "read"), ("set", "update")):
                measured.add(f"{size.name} redis {kind}", rates[name] * shape.value_bytes / 1e9)

    return case


def python_case(plan: Plan, stack: ExitStack, measured: Measured) -> Case:
    """One Python process with each client library."""
    redis = _peer(plan, stack, measured, "redis-server")
    memcached = _peer(plan, stack, measured, "memcached")
    address = f"shm://{plan.directory.name}"
    stack.callback(pool_load.call, "remove", plan.directory.name)
    addresses = {"artesian": address, "redis": redis, "memcached": memcached}

    def case() -> None:
        for kind in PYTHON_PEERS:
            if addresses[kind] is None:
                continue
            sizes = [str(PYTHON_KEYS), str(SMALL.value_bytes), str(plan.seconds)]
            program = str(ROOT / "benchmarks" / "pool_client.py")
            command = [sys.executable, program, kind, str(addresses[kind]), *sizes]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if done.returncode != 0:
                measured.note(f"{kind} from Python: {done.stderr.strip().splitlines()[-1]}")
                continue
            for name, rate in json.loads(done.stdout).items():
                measured.add(f"python {kind} {name}", rate)

    return case


def _peer(plan: Plan, stack: ExitStack, measured: Measured, program: str) -> Path | None:
    """The socket of a peer, which is started once; None and a note if it is not installed."""
    start, name = {
        "redis-server": (peers.redis, "redis.sock"),
        "memcached": (peers.memcached, "memcached.sock"),
    }[program]
    path = plan.directory / name
    if path.exists():
        return path
    if advice := peers.missing(program):
        measured.note(advice)
        return None
    return stack.enter_context(start(plan.directory))
