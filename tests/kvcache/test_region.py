"""Arenas in shared memory: lent as any other, found by name, and taken away at the end."""

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from artesian.kvcache import Arena, BlockAllocator, OutOfBlocksError, RegionArena
from artesian.kvcache.region import region_names, remove_region
from artesian.pool import list_pools

NAME = f"test-arena-{os.getpid()}"


@pytest.fixture
def arena() -> Iterator[RegionArena]:
    arena = RegionArena(NAME, 5, 192, 3, fingerprint="a model")
    yield arena
    arena.close()


def test_it_lends_as_an_arena_in_private_memory_does(arena: RegionArena) -> None:
    twin = Arena(5, 192, 3)
    rng = np.random.default_rng(1)
    lent: list[int] = []
    for _ in range(300):
        if lent and rng.random() < 0.45:
            block = lent.pop(int(rng.integers(len(lent))))
            twin.free(block)
            arena.free(block)
        elif len(lent) == 5:
            for one in (arena, twin):
                with pytest.raises(OutOfBlocksError):
                    one.allocate()
        else:
            lent.append(arena.allocate())
            assert twin.allocate() == lent[-1]
        assert arena.num_free_blocks == twin.num_free_blocks == 5 - len(lent)
    with pytest.raises(ValueError, match="block 5 is not lent"):
        arena.free(5)


def test_its_memory_is_writable_and_aligned(arena: RegionArena) -> None:
    allocator: BlockAllocator = arena
    assert allocator.memory.shape == (5 * 192,) and allocator.memory.dtype == np.uint8
    assert allocator.memory.ctypes.data % (2 << 20) == 0
    assert not allocator.memory.any()
    allocator.memory[:] = np.arange(5 * 192) % 251
    arena.region.back(0, 5 * 192)
    assert (allocator.memory == np.arange(5 * 192) % 251).all()


def test_its_bytes_stay_for_this_process_when_it_is_closed(arena: RegionArena) -> None:
    memory = arena.memory
    assert NAME in region_names()
    arena.close()
    arena.close()
    assert NAME not in region_names()
    memory[:] = 7
    assert memory.sum() == 7 * memory.size


def test_it_is_no_pool(arena: RegionArena) -> None:
    assert not [name for name in list_pools() if NAME in name]


def test_names_are_given_once(arena: RegionArena) -> None:
    with pytest.raises(OSError, match=NAME):
        RegionArena(NAME, 5, 192, fingerprint="a model")
    with pytest.raises(OSError, match="letters"):
        RegionArena("a.b", 5, 192, fingerprint="a model")


@pytest.mark.parametrize(
    ("num_blocks", "block_bytes", "num_layers"), [(0, 192, 1), (5, 100, 1), (5, 192, 5)]
)
def test_impossible_sizes_are_refused(num_blocks: int, block_bytes: int, num_layers: int) -> None:
    with pytest.raises(ValueError, match=r"blocks|multiple"):
        RegionArena(NAME, num_blocks, block_bytes, num_layers, fingerprint="a model")
    assert NAME not in region_names()


def test_the_region_of_a_killed_process_is_removed_by_name() -> None:
    code = (
        "import os, signal, sys; from artesian.kvcache import RegionArena;"
        "arena = RegionArena(sys.argv[1], 5, 192, fingerprint='a model');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    name = f"{NAME}-killed"
    assert not remove_region(name)
    subprocess.run([sys.executable, "-c", code, name], timeout=60, check=False)
    assert name in region_names()
    assert remove_region(name)
    assert name not in region_names()
    RegionArena(name, 5, 192, fingerprint="a model").close()
