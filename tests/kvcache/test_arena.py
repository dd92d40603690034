"""The arena lends each block once and takes memory only as it is used."""

import numpy as np
import pytest

from artesian.kvcache import Arena, OutOfBlocksError
from artesian.machine import resident_bytes

MIB = 1 << 20


def test_blocks_are_lent_once_until_freed() -> None:
    arena = Arena(3, 64)
    blocks = [arena.allocate() for _ in range(3)]
    assert sorted(blocks) == [0, 1, 2]
    with pytest.raises(OutOfBlocksError, match="all 3"):
        arena.allocate()
    arena.free(blocks[1])
    assert arena.num_free_blocks == 1
    assert arena.allocate() == blocks[1]


@pytest.mark.parametrize("block", [-1, 3, 0])
def test_only_lent_blocks_can_be_freed(block: int) -> None:
    with pytest.raises(ValueError, match="not lent"):
        Arena(3, 64).free(block)


def test_memory_is_aligned_writable_and_of_the_right_size() -> None:
    arena = Arena(5, 192)
    assert arena.memory.shape == (5 * 192,)
    assert arena.memory.dtype == np.uint8
    assert arena.memory.ctypes.data % 4096 == 0
    arena.memory[:] = 7
    assert arena.memory.sum() == 7 * 5 * 192


def test_untouched_memory_is_not_resident() -> None:
    before = resident_bytes()
    arena = Arena(1024, MIB)
    assert resident_bytes() - before < 64 * MIB
    arena.memory[: 128 * MIB] = 1
    assert resident_bytes() - before > 100 * MIB


def test_freed_blocks_come_before_untouched_ones() -> None:
    arena = Arena(100, 64)
    for _ in range(50):
        arena.free(arena.allocate())
    assert arena.allocate() == 0
