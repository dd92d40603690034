"""How quickly the tiers of the context cache save and load, beside copying within memory.

    make bench-context_tiers
    make bench-context_tiers ARGS='--blocks 500'

Blocks as large as SmolLM2's, as many as 4,000 tokens have. The first load of a round is into memory
that was not touched yet, as after a restart; then the same blocks come again.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import report
from artesian.context import DiskTier, HostTier, Tier
from artesian.kvcache import Arena
from artesian.pool import Pool
from machine import describe
from report import Row

BLOCK_BYTES = 30 * 2 * 3 * 32 * 64 * 2
"""30 layers of keys and values: 3 heads, 32 tokens, 64 numbers of 2 bytes."""
NUM_LAYERS = 30
MEMCPY = "memcpy"
TIERS = ("pool", "disk")
MOVES = ("save", "load, first", "load, again")
console = report.make_console()


def drain(tier: Tier) -> None:
    """Waits until all moves have ended well."""
    ended = tier.poll()
    while tier.num_open:
        tier.wait(10.0)
        ended += tier.poll()
    ended += tier.poll()
    assert all(done.outcome in ("saved", "hit", "removed") for done in ended)


def timed(work: Callable[[], None]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(tier: Tier, arena: Arena, names: list[bytes]) -> dict[str, float]:
    """Seconds by move. Half of the arena is saved, and loaded into the other half."""
    count = len(names)

    def save() -> None:
        for block, name in enumerate(names):
            assert tier.save(name, block) is not None
        drain(tier)

    def load() -> None:
        tier.load(names, range(count, 2 * count))
        drain(tier)

    found = dict(zip(MOVES, (timed(save), timed(load), timed(load)), strict=True))
    half = count * arena.block_bytes
    assert np.array_equal(arena.memory[:half], arena.memory[half : 2 * half])
    return found


def one_round(count: int, seed: int) -> dict[tuple[str, str], float]:
    """Seconds by tier and move."""
    names = [number.to_bytes(32, "little") for number in range(count)]
    content = np.random.default_rng(seed).integers(0, 256, count * BLOCK_BYTES, np.uint8)
    pool = f"artesian-bench-{os.getpid()}"
    num_bytes = 4 * count * BLOCK_BYTES
    found: dict[tuple[str, str], float] = {}
    with TemporaryDirectory(prefix="artesian-bench-") as directory:
        opened: dict[str, Callable[[Arena], Tier]] = {
            "pool": lambda arena: HostTier(pool, num_bytes, arena, num_bytes),
            "disk": lambda arena: DiskTier(Path(directory) / "kv", num_bytes, arena, num_bytes),
        }
        for label, open_tier in opened.items():
            arena = Arena(2 * count, BLOCK_BYTES, NUM_LAYERS)
            arena.memory[: len(content)] = content
            tier = open_tier(arena)
            for move, seconds in measure(tier, arena, names).items():
                found[label, move] = seconds
            del tier
        Pool.remove(pool)
    there = np.empty_like(content)

    def copy() -> None:
        there[:] = content

    found[MEMCPY, "load, first"] = timed(copy)
    found[MEMCPY, "load, again"] = found[MEMCPY, "save"] = timed(copy)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=125)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    rounds = [one_round(options.blocks, seed) for seed in range(options.rounds)]
    gigabytes = options.blocks * BLOCK_BYTES / 1e9
    rows = []
    for move in MOVES:
        rates = {
            name: [gigabytes / found[name, move] for found in rounds] for name in (*TIERS, MEMCPY)
        }
        medians = {name: statistics.median(rate) for name, rate in rates.items()}
        rows.append(
            Row(
                subject=f"{options.blocks} blocks of {BLOCK_BYTES / 1e6:.2f} MB",
                metric=move,
                value=medians["pool"],
                unit="GB/s",
                baseline=MEMCPY,
                baseline_value=medians[MEMCPY],
                values=medians,
                spread={name: (min(rate), max(rate)) for name, rate in rates.items()},
            )
        )
    title = f"{gigabytes * 1e3:.0f} MB of KV between the engine's memory and a tier"
    report.print_table(title, rows, [*TIERS, MEMCPY], console)
    extra: dict[str, object] = {"rounds": options.rounds, "blocks": options.blocks}
    console.print(f"written to {report.write('context-tiers', rows, machine, extra)}")


if __name__ == "__main__":
    main()
