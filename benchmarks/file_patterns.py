"""How files are read, told from 100 accesses: made-up patterns, recorded loads, and what it costs.

    make bench-file_patterns ARGS='--data DIR'

Each pattern is judged in a folder of 1,000 names after 100 accesses, 20 times. DIR has the recorded
loads (benchmarks/README.md says which); without it only patterns are judged.
"""

import argparse
import csv
import lzma
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import report
from artesian.files import BLOCK_BYTES, Access
from artesian.files.tree import AccessStreamTree, TreeOptions
from artesian.sim.files import read_trace
from file_loads import HDF5, MODELS, NPZ
from machine import describe
from report import Row

NUM_NAMES = 1000
NUM_DIFFERENT = 100
"""Accesses that are not to the same name as the one before, as only those count."""
NUM_ACCESSES = 130
FOLDER = "s3://bucket/set"
console = report.make_console()
Ranks = list[int]
Pattern = Callable[[random.Random], Ranks]


def shuffle(dice: random.Random) -> Ranks:
    order = list(range(NUM_NAMES))
    dice.shuffle(order)
    return order[:NUM_ACCESSES]


def uniform(dice: random.Random) -> Ranks:
    return [dice.randrange(NUM_NAMES) for _ in range(NUM_ACCESSES)]


def zipf(power: float, *, is_scattered: bool) -> Pattern:
    weights = [1 / rank**power for rank in range(1, NUM_NAMES + 1)]

    def ranks(dice: random.Random) -> Ranks:
        names = list(range(NUM_NAMES))
        if is_scattered:
            dice.shuffle(names)
        return [names[rank] for rank in dice.choices(range(NUM_NAMES), weights, k=NUM_ACCESSES)]

    return ranks


def scans(count: int) -> Pattern:
    def ranks(dice: random.Random) -> Ranks:
        places = [number * NUM_NAMES // count for number in range(count)]
        found = []
        for _ in range(NUM_ACCESSES):
            scan = dice.randrange(count)
            found.append(places[scan])
            places[scan] += 1
        return found

    return ranks


def stride(dice: random.Random) -> Ranks:
    step = dice.randrange(5, 8)
    return [number * step for number in range(NUM_ACCESSES)]


def buffered(dice: random.Random) -> Ranks:
    buffer = list(range(64))
    found = []
    for number in range(64, 64 + NUM_ACCESSES):
        place = dice.randrange(64)
        found.append(buffer[place])
        buffer[place] = number
    return found


PATTERNS: dict[str, tuple[str, Pattern]] = {
    "epoch shuffle": ("random", shuffle),
    "uniform, with replacement": ("random", uniform),
    "Zipf 0.8, scattered": ("skewed", zipf(0.8, is_scattered=True)),
    "Zipf 0.99, scattered": ("skewed", zipf(0.99, is_scattered=True)),
    "Zipf 1.2, scattered": ("skewed", zipf(1.2, is_scattered=True)),
    "Zipf 0.99, adjacent": ("skewed", zipf(0.99, is_scattered=False)),
    "one scan": ("sequential", scans(1)),
    "scan with a stride": ("sequential", stride),
    "4 scans at once": ("sequential", scans(4)),
    "16 scans at once": ("sequential", scans(16)),
    "scan, shuffle buffer of 64": ("sequential", buffered),
}
WAYS = {
    "Artesian": (TreeOptions(), True),
    "without test of repeats": (TreeOptions(tests_repeats=False), True),
    "one frontier": (TreeOptions(num_frontiers=1), True),
    "without a listing": (TreeOptions(), False),
}


def verdict(ranks: Sequence[int], options: TreeOptions, *, is_listed: bool) -> str:
    """What is said of a folder after these accesses."""
    tree = AccessStreamTree(BLOCK_BYTES, options)
    if is_listed:
        tree.listed(FOLDER, [_name(rank) for rank in range(NUM_NAMES)])
    different = [rank for place, rank in enumerate(ranks) if not place or ranks[place - 1] != rank]
    for number, rank in enumerate(different[:NUM_DIFFERENT]):
        path = f"{FOLDER}/{_name(rank)}"
        tree.access(Access(path, 0, 10, 1 << 32, float(number), 10))
    return str(tree.explain(FOLDER)[-1].verdict.value)


def _name(rank: int) -> str:
    return f"f{rank:05}"


def pattern_rows(num_seeds: int) -> list[Row]:
    rows = []
    for name, (right, pattern) in PATTERNS.items():
        values = {}
        for way, (options, is_listed) in WAYS.items():
            found = [
                verdict(pattern(random.Random(seed)), options, is_listed=is_listed)
                for seed in range(num_seeds)
            ]
            values[way] = found.count(right) / num_seeds
        rows.append(
            Row(
                subject=f"{right}: {name}",
                metric=f"{name}: {right}",
                value=values["Artesian"],
                unit="",
                baseline="right verdicts",
                baseline_value=1.0,
                target=0.95,
                values=values,
            )
        )
    return rows


def trace_rows(data: Path) -> list[Row]:
    """Verdicts of folders of recorded loads, and of the files in them."""
    found = []
    for name, path, right in (("UNet3D npz", NPZ, "random"), ("UNet3D HDF5", HDF5, "sequential")):
        tree = AccessStreamTree(BLOCK_BYTES)
        job = read_trace(data / path, FOLDER)
        for folder, names in job.listings.items():
            tree.listed(
                folder, [f"img_{n:03}_of_168.{names[0][-4:].strip('.')}" for n in range(168)]
            )
        # Whose turn it is does not matter much: one read of each reader after another.
        queues = [list(reversed(reader)) for reader in job.readers]
        now_s = 0.0
        while any(queues):
            for queue in queues:
                if queue:
                    read = queue.pop()
                    now_s += 0.01
                    tree.access(Access(*read[1:4], read.stream, now_s, read.file_bytes))
        last = job.readers[0][-1].path
        levels = tree.explain(last)
        found.append((f"{name}: its folder", levels[-2].verdict.value, right))
        found.append((f"{name}: a file", levels[-1].verdict.value, "sequential"))
    for name, is_scattered in (("model requests", False), ("model requests, scattered", True)):
        found.append((name, _models(data, is_scattered), "skewed"))
    return [
        Row(
            subject=name,
            metric=f"{name}: {right}, found {said}",
            value=float(said == right),
            unit="",
            baseline="right verdicts",
            baseline_value=1.0,
            target=1.0,
            values={"Artesian": float(said == right)},
        )
        for name, said, right in found
    ]


def _models(data: Path, is_scattered: bool) -> str:
    with lzma.open(data / MODELS, "rt") as file:
        asked = [row["checkpoint_model_version_id"] for row in csv.DictReader(file)]
    names = sorted(set(asked) - {""})
    if is_scattered:
        random.Random(1).shuffle(names)
    tree = AccessStreamTree(BLOCK_BYTES)
    tree.listed(FOLDER, names)
    for number, name in enumerate(asked[:2000]):
        if name:
            tree.access(Access(f"{FOLDER}/{name}", 0, 10, 1 << 32, float(number), 10))
    return str(tree.explain(FOLDER)[-1].verdict.value)


def cost_rows(rounds: int) -> list[Row]:
    """Seconds of an access with and without a test behind it, and bytes of a node."""
    count = 20_000
    often, never = TreeOptions(retest_every=1), TreeOptions(retest_every=1_000_000)
    usual: list[float] = []
    tested: list[float] = []
    plain: list[float] = []
    for number in range(rounds):
        dice = random.Random(number)
        accesses = [
            Access(f"{FOLDER}/{_name(dice.randrange(NUM_NAMES))}", 0, 10, 1 << 32, i * 0.01, 10)
            for i in range(count)
        ]
        for found, options in ((usual, TreeOptions()), (tested, often), (plain, never)):
            tree = AccessStreamTree(BLOCK_BYTES, options)
            tree.listed(FOLDER, [_name(rank) for rank in range(NUM_NAMES)])
            began = time.perf_counter()
            for access in accesses:
                tree.access(access)
            found.append((time.perf_counter() - began) / count * 1e6)
    test = statistics.median(a - b for a, b in zip(tested, plain, strict=True))
    bounds = (
        ("an access, called from Python", statistics.median(usual), "us", 2.0),
        ("a test of 128 accesses", test, "us", 20.0),
        ("a node with full windows", _node_bytes(), "bytes", 2500.0),
    )
    return [
        Row(
            subject="cost",
            metric=name,
            value=value,
            unit=unit,
            baseline="bound",
            baseline_value=bound,
            better="less",
            target=1.0,
            values={"Artesian": value, "bound": bound},
        )
        for name, value, unit, bound in bounds
    ]


def _node_bytes() -> float:
    tree = AccessStreamTree(BLOCK_BYTES)
    dice = random.Random(1)
    size = 1000 * BLOCK_BYTES
    for number in range(200):
        for step in range(200):
            offset = dice.randrange(1000) * BLOCK_BYTES
            path = f"{FOLDER}/{_name(number)}"
            tree.access(Access(path, offset, 10, step % 40, float(step), size))
    num_nodes, num_bytes, _ = tree.size()
    return num_bytes / num_nodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    patterns = pattern_rows(options.seeds)
    report.print_table("right verdicts, parts of the runs", patterns, list(WAYS), console)
    traces = trace_rows(options.data) if options.data else []
    report.print_table("recorded loads", traces, ["Artesian"], console)
    costs = cost_rows(options.rounds)
    report.print_table("what it costs", costs, ["Artesian", "bound"], console)
    extra: dict[str, object] = {"seeds": options.seeds}
    path = report.write("file-patterns", patterns + traces + costs, describe(), extra)
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()
