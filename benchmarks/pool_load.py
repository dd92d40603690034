"""The load generator of crates/pool, and the processes that it runs as."""

import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import ROOT

PROGRAM = ROOT / "target" / "release" / "examples" / "pool_load"
WARM_UP_SECONDS = 0.5
"""Before all processes start to count at the same moment."""

Report = dict[str, Any]
_numbers = itertools.count()


class LoadError(Exception):
    """The load generator ended with an error."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A pool and what it holds.

    Attributes:
        delay_us: modelled delay of every batch of verbs, in microseconds.
        tree: whether the keys are in the ordered index.
    """

    keys: int
    value_bytes: int
    replicas: int = 1
    nodes: int = 1
    delay_us: int = 0
    tree: bool = False

    @property
    def node_mib(self) -> int:
        """Room for four times the values on every node, 256 MiB at least."""
        copies = self.keys * (self.value_bytes + 256) * self.replicas / self.nodes
        return max(256, int(4 * copies) >> 20)


def call(command: str, pool: str, **options: object) -> Report:
    """Runs one command of the load generator to its end."""
    return _finish(_start(command, pool, options))


@contextmanager
def filled_pool(shape: Shape, empty: bool = False) -> Iterator[str]:
    """The name of a pool with `shape.keys` keys, removed at the end."""
    pool = f"bench-{os.getpid()}-{next(_numbers)}"
    sizes = {"nodes": shape.nodes, "replicas": shape.replicas, "node-mib": shape.node_mib}
    call("create", pool, **sizes)
    try:
        if not empty:
            sizes = {"keys": shape.keys, "value-bytes": shape.value_bytes}
            call("fill", pool, tree=shape.tree, **sizes)
        yield pool
    finally:
        call("remove", pool)


def run(
    pool: str, shape: Shape, workload: str, clients: int, seconds: float, **options: object
) -> list[Report]:
    """The reports of so many processes that work at the same time."""
    start = time.monotonic_ns() + int((WARM_UP_SECONDS + 0.05 * clients) * 1e9)
    common = {
        "workload": workload,
        "keys": shape.keys,
        "value-bytes": shape.value_bytes,
        "seconds": seconds,
        "start": start,
        "delay-ns": shape.delay_us * 1000,
        "clients": clients,
        **options,
    }
    processes = [_start("run", pool, {**common, "client": n}) for n in range(clients)]
    try:
        return [_finish(process) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def ops_per_s(reports: list[Report]) -> float:
    """Of all processes together."""
    return sum(float(report["ops_per_s"]) for report in reports)


def missing() -> str | None:
    """What to do if the load generator has not been built."""
    if Path(PROGRAM).exists():
        return None
    return "cargo build --release -p artesian-pool --example pool_load"


def output(program: Path, *arguments: str, **options: object) -> list[Report]:
    """Runs another example of crates/pool to its end; each line that it prints is a report."""
    command = [str(program), *arguments, *_flags(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1_200)
    if done.returncode != 0:
        raise LoadError(done.stderr.strip() or f"ended with status {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def _flags(options: dict[str, Any]) -> list[str]:
    flags = []
    for name, value in options.items():
        if isinstance(value, bool):
            flags += [f"--{name}"] * value
        else:
            flags += [f"--{name}", str(value)]
    return flags


def _start(command: str, pool: str, options: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PROGRAM, command, "--pool", pool, *_flags(options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(process: subprocess.Popen[str]) -> Report:
    output, errors = process.communicate(timeout=600)
    if process.returncode != 0:
        raise LoadError(errors.strip() or f"ended with status {process.returncode}")
    report: Report = json.loads(output)
    return report
