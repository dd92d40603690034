"""How quickly blocks are read: layer by layer or whole, from the page cache or the device, with
direct I/O or through the cache."""

import mmap
import os
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console

from artesian._core import BlockMover
from artesian.kvcache import Arena
from report import Row

NUM_LAYERS, LAYER_BYTES = 30, 24_576
"""SmolLM2-135M's blocks of 32 tokens in bf16."""
BLOCK_BYTES = NUM_LAYERS * LAYER_BYTES
READ_LAYERS = 6
"""At a time, as the disk tier reads such blocks."""
STAGES = {
    "whole blocks": NUM_LAYERS,
    "layer by layer": 1,
    f"{READ_LAYERS} layers at a time": READ_LAYERS,
}
NUM_BLOCKS = 250
NUM_ROUNDS = 7
NUM_THREADS = 2
PAGE = 4096


def time_reads(directory: Path, console: Console) -> list[Row]:
    """Rates in GB/s."""
    arena = Arena(NUM_BLOCKS, BLOCK_BYTES, NUM_LAYERS)
    noise = np.random.default_rng(0).integers(0, 255, BLOCK_BYTES + 256, np.uint8)
    names = [random.Random(i).randbytes(32) for i in range(NUM_BLOCKS)]
    for block in range(NUM_BLOCKS):
        start = block * BLOCK_BYTES
        arena.memory[start : start + BLOCK_BYTES] = noise[block : block + BLOCK_BYTES]
    mover = BlockMover(directory, 8 << 30, 1 << 30, LAYER_BYTES, arena.memory, NUM_THREADS, 8 << 30)
    for block, name in enumerate(names):
        mover.save(name, block * BLOCK_BYTES, BLOCK_BYTES)
    while mover.num_open:
        mover.wait(1.0)
    mover.poll()
    places = [(name, block * BLOCK_BYTES) for block, name in enumerate(names)]
    files = sorted(directory.glob("*.kv"))
    found: dict[tuple[str, str], list[float]] = {}

    def load(num_layers: int) -> float:
        started = time.perf_counter()
        _, gate = mover.load(places, BLOCK_BYTES, num_layers * LAYER_BYTES)
        assert gate.wait(BLOCK_BYTES, 60.0)
        mover.poll()
        return time.perf_counter() - started

    for _ in range(NUM_ROUNDS):
        load(NUM_LAYERS)  # brings all into the page cache
        for place in ("page cache", "device"):
            for way, num_layers in STAGES.items():
                if place == "device":
                    _drop(files)
                found.setdefault((place, way), []).append(load(num_layers))
        for is_direct in (False, True):
            _drop(files)
            way = "direct I/O" if is_direct else "through the cache"
            found.setdefault(("device", way), []).append(_read(files[0], is_direct))
    rates = {key: _rate(times) for key, times in found.items()}
    console.print(f"{NUM_BLOCKS} blocks of {BLOCK_BYTES:,} bytes are read by {NUM_THREADS} threads")
    return [_row(key, rate, rates) for key, rate in rates.items()]


def _drop(files: list[Path]) -> None:
    """The files are on the device and in no cache."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read(path: Path, is_direct: bool) -> float:
    """Seconds to read the bytes of all blocks, some layers at a time, without verifying them."""
    flags = os.O_RDONLY | (os.O_DIRECT if is_direct else 0)
    file = os.open(path, flags)
    room = PAGE + BLOCK_BYTES
    step = READ_LAYERS * LAYER_BYTES
    offsets = [
        block * room + PAGE + at
        for at in range(0, BLOCK_BYTES, step)
        for block in range(NUM_BLOCKS)
    ]

    def read(part: list[int]) -> None:
        memory = mmap.mmap(-1, step)
        for offset in part:
            assert os.preadv(file, [memory], offset) == step

    try:
        started = time.perf_counter()
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            list(pool.map(read, [offsets[i::NUM_THREADS] for i in range(NUM_THREADS)]))
        return time.perf_counter() - started
    finally:
        os.close(file)


def _rate(times: list[float]) -> float:
    return NUM_BLOCKS * BLOCK_BYTES / statistics.median(times) / 1e9


def _row(key: tuple[str, str], rate: float, rates: dict[tuple[str, str], float]) -> Row:
    place, way = key
    is_loaded = way in STAGES
    base = rates[place, "whole blocks" if is_loaded else "through the cache"]
    values = {"Artesian": rate} | ({"whole blocks": base} if is_loaded else {})
    return Row(
        subject="reading",
        metric=f"reading from {place}, {way}",
        value=rate,
        unit="GB/s",
        baseline="whole blocks" if is_loaded else "through the cache",
        baseline_value=base,
        values=values,
    )
