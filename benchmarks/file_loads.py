"""Loads of files for benchmarks: jobs made of recorded traces and sets of files."""

import csv
import lzma
import random
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from artesian.files import BLOCK_BYTES
from artesian.sim.files import FileRead, Job, hash_of, read_trace

MIB = 1 << 20
NPZ = "dataload/unet3d_npz_posix.csv.xz"
HDF5 = "dataload/unet3d_hdf5_posix_ranks0-3.csv.xz"
MODELS = "llm/genai_model_requests_first16000.csv.xz"
REVIEWS = "files/movie_reviews.zip"


def mixed(data: Path, seed: int, shorter: int = 1) -> list[Job]:
    """Five jobs that begin within a minute of each other.

    Args:
        shorter: so many times fewer epochs, requests and files.
    """
    dice = random.Random(seed)
    jobs = [
        small_files(data, dice, epochs=max(2, 8 // shorter)),
        _renamed(read_trace(data / NPZ, "s3://bucket/npz"), "npz"),
        _renamed(read_trace(data / HDF5, "s3://bucket/hdf5"), "hdf5"),
        models(data, dice, count=400 // shorter),
        scan(count=64 // shorter),
    ]
    return [replace(job, begin_s=dice.uniform(0, 60)) for job in jobs]


def small_files(data: Path, dice: random.Random, epochs: int, readers: int = 2) -> Job:
    """A training set of about 2,000 texts in two folders, in a new order in each epoch."""
    with zipfile.ZipFile(data / REVIEWS) as archive:
        sizes = {i.filename: i.file_size for i in archive.infolist() if i.filename.endswith(".txt")}
    root = "s3://bucket/"
    reads: list[list[FileRead]] = [[] for _ in range(readers)]
    for epoch in range(epochs):
        order = sorted(sizes)
        dice.shuffle(order)
        for place, name in enumerate(order):
            reader = place % readers
            stream = (1000 + reader) << 32 | (epoch * len(order) + place)
            read = FileRead(0.002, root + name, 0, sizes[name], sizes[name], stream)
            reads[reader].append(read)
    return Job("small files", reads, _listings(root + name for name in sizes))


def models(data: Path, dice: random.Random, count: int) -> Job:
    """Requests for models as they were recorded, from a place that depends on the seed: each loads
    its model, of 64 to 256 MiB, from the beginning to the end."""
    with lzma.open(data / MODELS, "rt") as file:
        column = "checkpoint_model_version_id"
        names = [row[column] for row in csv.DictReader(file) if row[column]]
    first = dice.randrange(len(names) - count)
    files = {name: f"s3://bucket/models/{name}.safetensors" for name in sorted(set(names))}
    reads = []
    for number, name in enumerate(names[first : first + count]):
        size = (16 + hash_of(name) % 49) * BLOCK_BYTES
        for offset in range(0, size, 4 * BLOCK_BYTES):
            length = min(4 * BLOCK_BYTES, size - offset)
            think_s = 0.5 if offset == 0 else 0.0
            reads.append(FileRead(think_s, files[name], offset, length, size, 2000 << 32 | number))
    return Job("models", [reads], _listings(files.values()))


def scan(count: int, file_bytes: int = 64 * MIB) -> Job:
    """Shards that are read once, in order, 1 MiB at a time."""
    names = [f"s3://bucket/text/shard-{number:05}.jsonl" for number in range(count)]
    reads = [
        FileRead(0.004, name, offset, MIB, file_bytes, 3000 << 32 | number)
        for number, name in enumerate(names)
        for offset in range(0, file_bytes, MIB)
    ]
    return Job("scan", [reads], _listings(names))


def _renamed(job: Job, name: str) -> Job:
    return replace(job, name=name)


def _listings(paths: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        found.setdefault(folder, []).append(name)
    return {folder: sorted(names) for folder, names in found.items()}
