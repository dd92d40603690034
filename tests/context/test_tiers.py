"""KV in a memory pool and on disk at once: each block from the quickest tier, whatever fails."""

import mmap
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from artesian.context import DiskTier, HostTier, WritePolicy
from artesian.context.base import ContextCacheError, Entry
from artesian.context.misses import MissLog
from artesian.context.retention import Retention
from artesian.context.shelf import Shelf, TierStats
from artesian.engine.engine import LLMEngine
from artesian.kvcache import Arena
from artesian.pool import Pool, PoolError
from tests.context.test_context_cache import PROMPT, close, context_of, expected, files, settle
from tests.engine.toy import Clock, generate, greedy, make_engine

NUM_BLOCKS = (len(PROMPT) + 15) // 4
"""That a prompt of these and its answer of 16 tokens fill."""


def stats_of(engine: LLMEngine, label: str) -> TierStats:
    (stats,) = [s.stats for s in context_of(engine).shelves if s.tier.label == label]
    return stats


def serve(engine: LLMEngine, prompt: list[int]) -> list[int]:
    """Answers, and lets everything settle. The tokens are those of an engine without tiers."""
    tokens = generate(engine, prompt, greedy()).tokens
    assert tokens == expected(prompt)
    settle(engine)
    return tokens


def test_a_pool_outlives_the_server(pool: str) -> None:
    first = make_engine(context_pool=pool)
    serve(first, PROMPT)
    close(first)
    second = make_engine(context_pool=pool)
    assert len(context_of(second).shelves[0].tier.entries()) == NUM_BLOCKS
    serve(second, PROMPT)
    assert stats_of(second, "host").num_loaded_blocks == 15
    close(second)


def test_servers_share_blocks_at_once(pool: str) -> None:
    one, other = make_engine(context_pool=pool), make_engine(context_pool=pool)
    serve(one, PROMPT)
    used_bytes = context_of(one).shelves[0].tier.used_bytes
    serve(other, PROMPT)
    assert stats_of(other, "host").num_loaded_blocks == 15
    serve(other, [5, *PROMPT])
    serve(one, [5, *PROMPT])
    assert stats_of(one, "host").num_loaded_blocks == 15
    assert context_of(one).shelves[0].tier.used_bytes <= 2 * used_bytes + 4096, "stored once"
    close(one)
    close(other)


def test_blocks_are_saved_in_both_and_come_from_the_pool(pool: str, tmp_path: Path) -> None:
    first = make_engine(context_pool=pool, context_dir=tmp_path)
    serve(first, PROMPT)
    assert [stats_of(first, label).num_saved_blocks for label in ("host", "disk")] == [19, 19]
    close(first)
    second = make_engine(context_pool=pool, context_dir=tmp_path)
    serve(second, PROMPT)
    assert [stats_of(second, label).num_loaded_blocks for label in ("host", "disk")] == [15, 0]
    assert second.stats().context_tiers[0].loaded_bytes == 15 * 32
    close(second)


def test_what_comes_from_disk_goes_to_the_pool(pool: str, tmp_path: Path) -> None:
    first = make_engine(context_dir=tmp_path)
    serve(first, PROMPT)
    close(first)
    second = make_engine(context_pool=pool, context_dir=tmp_path)
    serve(second, PROMPT)
    assert [stats_of(second, label).num_loaded_blocks for label in ("host", "disk")] == [0, 15]
    assert stats_of(second, "host").num_saved_blocks == 19
    close(second)
    third = make_engine(context_pool=pool, context_dir=tmp_path)
    serve(third, PROMPT)
    assert [stats_of(third, label).num_loaded_blocks for label in ("host", "disk")] == [15, 0]
    close(third)


def test_a_prefix_may_be_split_over_tiers(pool: str, tmp_path: Path) -> None:
    first = make_engine(context_pool=pool, context_dir=tmp_path)
    serve(first, PROMPT)
    context = context_of(first)
    host = context.shelves[0].tier
    names = [entry.name for entry in context.shelves[1].tier.entries()]
    gone = random.Random(3).sample(names, 7)
    for name in gone:
        host.remove(name)
    settle(first)
    close(first)
    second = make_engine(context_pool=pool, context_dir=tmp_path)
    found = context_of(second).find(names)
    serve(second, PROMPT)
    loaded = [stats_of(second, label).num_loaded_blocks for label in ("host", "disk")]
    assert sum(loaded) == 15
    assert loaded[0] >= 8
    assert loaded[1] > 0
    assert sum(found.values()) == len(names)
    assert found["disk"] == 7
    close(second)


@pytest.mark.parametrize("write", ["through", "back"])
def test_three_tiers_chain(pool: str, tmp_path: Path, write: WritePolicy) -> None:
    remote = f"{pool}-remote"

    def start() -> LLMEngine:
        return make_engine(
            num_blocks=40,
            context_pool=pool,
            context_pool_bytes=30 * 256,
            context_remote_pool=remote,
            context_dir=tmp_path,
            context_write=write,
        )

    try:
        first = start()
        for begin in range(5):
            serve(first, [begin, *PROMPT])
        saved = [stats_of(first, label).num_saved_blocks for label in ("host", "remote", "disk")]
        assert saved[0] > 0 and saved[1] > 0
        assert (saved[2] > 0) == (write == "through"), "the second tier has room for all"
        close(first)
        second = start()
        assert [shelf.tier.label for shelf in context_of(second).shelves] == [
            "host",
            "remote",
            "disk",
        ]
        for begin in range(5):
            serve(second, [begin, *PROMPT])
        assert stats_of(second, "remote").num_loaded_blocks > 15
        assert stats_of(second, "disk").num_loaded_blocks == 0
        Pool.remove(remote)
        third = start()
        for begin in range(5):
            serve(third, [begin, *PROMPT])
        assert (stats_of(third, "disk").num_loaded_blocks > 0) == (write == "through")
        close(third)
        second.close()
    finally:
        with suppress(PoolError):
            Pool.remove(remote)


def damage(pool: str, block: bytes) -> int:
    """Flips a bit of a block in the memory of a pool; how many places it was found at."""
    num_found = 0
    for path in Path("/dev/shm").glob(f"*{pool}*"):
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            at = memory.find(block)
            if at >= 0:
                memory[at] ^= 16
                num_found += 1
    return num_found


def test_damage_in_the_pool_is_made_up_for_by_the_disk(pool: str, tmp_path: Path) -> None:
    first = make_engine(context_pool=pool, context_dir=tmp_path)
    serve(first, PROMPT)
    hashes = [entry.name for entry in context_of(first).shelves[1].tier.entries()]
    blocks = [block for name in hashes for block in first.cache.lookup([name])]
    words = [first.cache.allocator.memory[b * 32 : b * 32 + 32].tobytes() for b in blocks]
    close(first)
    assert sum(damage(pool, word) for word in words) >= 19
    second = make_engine(context_pool=pool, context_dir=tmp_path)
    serve(second, PROMPT)
    assert stats_of(second, "host").num_evicted["corrupt"] == 15
    assert [stats_of(second, label).num_loaded_blocks for label in ("host", "disk")] == [0, 15]
    counts = second.stats().context_tiers[0]
    assert (counts.failed_loads, counts.evicted_blocks["corrupt"]) == (15, 15)
    close(second)


def test_a_pool_that_is_removed_costs_hits(pool: str, tmp_path: Path) -> None:
    engine = make_engine(num_blocks=40, context_pool=pool, context_dir=tmp_path)
    serve(engine, PROMPT)
    Pool.remove(pool)
    for start in range(6):
        serve(engine, [start, *PROMPT])
    serve(engine, PROMPT)
    assert stats_of(engine, "disk").num_loaded_blocks > 0
    engine.close()


def test_written_back_a_block_goes_to_disk_when_the_pool_makes_room(
    pool: str, tmp_path: Path
) -> None:
    bound = 30 * 256
    engine = make_engine(
        num_blocks=40,
        context_pool=pool,
        context_pool_bytes=bound,
        context_dir=tmp_path,
        context_write="back",
    )
    serve(engine, PROMPT)
    assert stats_of(engine, "disk").num_saved_blocks == 0
    for start in range(6):
        serve(engine, [start, *PROMPT])
    host, disk = stats_of(engine, "host"), stats_of(engine, "disk")
    assert 0 < disk.num_saved_blocks <= host.num_saved_blocks
    assert host.num_evicted["capacity"] >= disk.num_saved_blocks
    serve(engine, PROMPT)
    assert disk.num_loaded_blocks > 0
    close(engine)


def test_selectively_written_only_what_is_used_again_goes_to_disk(
    pool: str, tmp_path: Path
) -> None:
    engine = make_engine(context_pool=pool, context_dir=tmp_path, context_write="selective")
    serve(engine, PROMPT)
    serve(engine, [9, *PROMPT])
    assert stats_of(engine, "host").num_saved_blocks == 2 * NUM_BLOCKS
    assert stats_of(engine, "disk").num_saved_blocks == 0
    serve(engine, PROMPT)
    assert stats_of(engine, "disk").num_saved_blocks == 15, "but not the answer's"
    assert len(files(tmp_path)) == 1
    close(engine)


@pytest.mark.parametrize("seed", range(3))
def test_engines_that_evict_from_one_pool_never_give_a_wrong_token(
    pool: str, tmp_path: Path, seed: int
) -> None:
    """Each takes away what the other one is about to load, some blocks are damaged."""
    chance = random.Random(seed)
    policies: list[WritePolicy] = ["through", "back", "selective"]
    write = policies[seed]

    def start() -> LLMEngine:
        return make_engine(
            num_blocks=40,
            context_pool=pool,
            context_pool_bytes=90 * 256,
            context_dir=tmp_path,
            context_bytes=100 * 8192,
            context_write=write,
        )

    reference = make_engine(num_blocks=256)
    engines = [start(), start()]
    conversations: list[list[int]] = [[i] for i in range(6)]
    loaded = 0
    for turn in range(150):
        number = chance.randrange(len(conversations))
        prompt = conversations[number]
        prompt += [chance.randrange(60) for _ in range(chance.randrange(1, 9))]
        engine = chance.choice(engines)
        tokens = generate(engine, prompt, greedy(5)).tokens
        assert tokens == generate(reference, prompt, greedy(5)).tokens, f"turn {turn}, {write}"
        prompt += [token for token in tokens if token < 60]
        if len(prompt) > 100:
            conversations[number] = prompt[:3]
        if chance.random() < 0.2:
            block = chance.randrange(40)
            damage(pool, engine.cache.allocator.memory[block * 32 : block * 32 + 32].tobytes())
        if chance.random() < 0.1:
            which = chance.randrange(2)
            engines[which].close()
            loaded += stats_of(engines[which], "host").num_loaded_blocks
            engines[which] = start()
    for engine in engines:
        close(engine)
    assert loaded > 30


def test_what_others_use_counts(pool: str) -> None:
    """A block that another server loads is not the next one to go."""
    arena = Arena(8, 64)
    mine, theirs = (HostTier(pool, 1 << 20, arena, 1 << 20) for _ in range(2))
    names = [bytes([number] * 32) for number in range(3)]
    for number, name in enumerate(names):
        assert mine.save(name, number) is not None
    while mine.num_open:
        mine.wait(1.0)
    shelf = Shelf(mine, MissLog())
    for name, done in zip(names, mine.poll(), strict=True):
        shelf.end_save(name, done)
        shelf.use([name])
    shelf.learn()
    newest_s = max(entry.saved_s for entry in mine.entries())

    class Used:
        """The tier, with what would be there after the others' use."""

        def __getattr__(self, name: str) -> Any:
            return getattr(mine, name)

        def entries(self) -> list[Entry]:
            used_s = [newest_s + 60, newest_s - 60, newest_s - 60]
            pairs = zip(names, used_s, strict=True)
            return [Entry(name, mine.room_bytes, seconds) for name, seconds in pairs]

    shelf.tier = Used()
    shelf.learn()
    shelf.make_room(0, num_refused=1)
    while mine.num_open:
        mine.wait(1.0)
    left = [theirs.find([name]) for name in names]
    assert left[0] == 1 and left[1] == 0


def test_old_blocks_go_and_are_not_written_back(pool: str, tmp_path: Path) -> None:
    clock = Clock()
    arena = Arena(8, 64)
    retention = Retention(ttl_s=10.0)
    disk = Shelf(DiskTier(tmp_path, 1 << 20, arena, 1 << 20), MissLog(), clock=clock)
    tier = HostTier(pool, 1 << 20, arena, 1 << 20)
    host = Shelf(tier, MissLog(), below=disk, retention=retention, clock=clock)

    def settle_removals() -> None:
        while tier.num_open:
            tier.wait(1.0)
        for done in tier.poll():
            assert host.end_removal(done)

    for number in range(3):
        assert tier.save(bytes([number] * 32), number) is not None
    while tier.num_open:
        tier.wait(1.0)
    for number, done in enumerate(tier.poll()):
        host.end_save(bytes([number] * 32), done)
    host.make_room(0)
    assert not host.is_busy
    clock.now += 8
    host.use([bytes([1] * 32)])
    clock.now += 4
    host.make_room(0)
    settle_removals()
    assert host.stats.num_evicted == {"ttl": 2}
    assert [number for number in range(3) if tier.find([bytes([number] * 32)])] == [1]
    assert host.misses.cause(bytes([0] * 32)) == "not used for long (host tier)"
    assert disk.tier.entries() == []


def test_pools_that_cannot_be_used_are_refused(pool: str) -> None:
    arena = Arena(4, 64)
    with pytest.raises(ContextCacheError, match="write shm://NAME"):
        HostTier("no such/name", 1 << 20, arena, 0)
    with pytest.raises(ContextCacheError, match="the host tier"):
        HostTier(pool, 1 << 50, arena, 0)
    with Pool(pool, size="16MiB") as joined:
        joined.tree("context")
        with pytest.raises(OSError, match="is a Tree"):
            HostTier(f"shm://{pool}", 1 << 20, arena, 0)
