"""A pool of blocks under processes that are killed, and that take away what others load."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from artesian.context import HostTier
from artesian.context.base import Outcome
from artesian.kvcache import Arena
from artesian.pool import Pool

BLOCK_BYTES = 300_000
NUM_BLOCKS = 40
CAPACITY = 64 << 20

OTHER = """
import sys
from tests.context.test_host import fill, name, open_tier
tier, arena = open_tier(sys.argv[2])
print("ready", flush=True)
number = 0
while True:
    number += 1
    if sys.argv[1] == "save":
        fill(arena, 0, number)
        tier.save(name(number), 0)
        if number > 60:
            tier.remove(name(number - 60))
    else:
        tier.remove(name(number % 40))
    while tier.num_open:
        tier.wait(10.0)
    tier.poll()
"""


def open_tier(pool: str) -> tuple[HostTier, Arena]:
    arena = Arena(NUM_BLOCKS, BLOCK_BYTES)
    return HostTier(pool, CAPACITY, arena, CAPACITY), arena


def name(number: int) -> bytes:
    return number.to_bytes(32, "little")


def content(number: int) -> bytes:
    return np.random.default_rng(number).bytes(BLOCK_BYTES)


def fill(arena: Arena, block: int, number: int) -> None:
    place = slice(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)
    arena.memory[place] = np.frombuffer(content(number), np.uint8)


def outcomes(tier: HostTier) -> list[Outcome]:
    ended = tier.poll()
    until = time.monotonic() + 20
    while tier.num_open:
        assert time.monotonic() < until
        tier.wait(1.0)
        ended += tier.poll()
    return [done.outcome for done in ended + tier.poll()]


def load(tier: HostTier, arena: Arena, number: int) -> Outcome:
    """Loads a block; its bytes are right, or it is a miss."""
    arena.memory[:BLOCK_BYTES] = 0
    tier.load([name(number)], [0])
    (outcome,) = outcomes(tier)
    assert outcome != "hit" or arena.memory[:BLOCK_BYTES].tobytes() == content(number)
    return outcome


@contextmanager
def another(what: str, pool: str) -> Iterator[subprocess.Popen[str]]:
    """A process that does that to the pool until it is killed."""
    command = [sys.executable, "-c", OTHER, what, pool]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_server_that_is_killed_while_it_saves_leaves_whole_blocks(pool: str) -> None:
    tier, arena = open_tier(pool)
    num_found = 0
    for turn in range(4):
        with another("save", pool):
            time.sleep(0.01 + 0.05 * turn)
        there = [number for number in range(1, 9_000) if tier.find([name(number)])]
        num_found += len(there)
        for number in there:
            assert load(tier, arena, number) == "hit"
        fill(arena, 0, 10_000 + turn)
        until = time.monotonic() + 20
        found: list[Outcome] = ["full"]
        while found == ["full"] and time.monotonic() < until:  # its memory comes back
            assert tier.save(name(10_000 + turn), 0) is not None
            found = outcomes(tier)
        assert found == ["saved"]
        for number in there:
            tier.remove(name(number))
        assert set(outcomes(tier)) <= {"removed"}
    assert num_found > 4
    del tier
    with Pool(pool) as joined:
        findings = joined.check(repair=True).findings
        assert not [finding for finding in findings if finding.severity == "error"], findings


def test_what_goes_while_it_is_loaded_is_right_or_a_miss(pool: str) -> None:
    tier, arena = open_tier(pool)
    found: list[Outcome] = []
    with another("remove", pool) as process:
        until = time.monotonic() + 20
        while time.monotonic() < until and not {"hit"} < {*found}:
            number = len(found) % 40
            fill(arena, 1, number)
            assert tier.save(name(number), 1) is not None
            assert outcomes(tier) in (["saved"], ["known"])
            found.append(load(tier, arena, number))
        assert process.poll() is None
    assert {"hit"} < {*found} <= {"hit", "absent", "vanished"}
