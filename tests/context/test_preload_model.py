"""Real models over blocks that arrive layer by layer: the tokens are those of computing alone."""

import random
from pathlib import Path

import pytest

from artesian.config.engine import EngineConfig
from artesian.context import ContextCache, DiskTier, PreloadRule
from artesian.engine.engine import LLMEngine
from artesian.engine.factory import create_engine
from artesian.kvcache import PrefixCache
from tests.engine.toy import generate, greedy

pytestmark = pytest.mark.slow

NUM_HISTORY, NUM_NEW = 600, 40
BLOCK = 32
CAPACITY = 1 << 30
MOST_SAVING = 64 << 20
LOAD_S = 0.2
PAGE = 4096


@pytest.fixture(params=["smollm2_path", "gemma3_path"])
def model(request: pytest.FixtureRequest) -> str:
    path: Path = request.getfixturevalue(request.param)
    return str(path)


def start(model: str, directory: Path | None, load_s: float | None = None) -> LLMEngine:
    """An engine over a disk from which the history comes in `load_s` seconds."""

    def opener(cache: PrefixCache, config: EngineConfig) -> ContextCache | None:
        if directory is None:
            return None
        history_bytes = NUM_HISTORY // BLOCK * cache.allocator.block_bytes
        bytes_per_s = None if load_s is None else history_bytes / load_s
        tier = DiskTier(directory, CAPACITY, cache.allocator, MOST_SAVING, bytes_per_s)
        return ContextCache(cache, [tier], config.block_size, rule=PreloadRule())

    return create_engine(EngineConfig(model=model, max_model_len=1024), opener)


def damage(directory: Path, block_bytes: int, block: int, chance: random.Random) -> None:
    """A bit of a block's content; all of them lie in the first file."""
    path = min(directory.glob("*.kv"))
    room = PAGE + -(-block_bytes // PAGE) * PAGE
    with path.open("r+b") as file:
        file.seek(block * room + PAGE + chance.randrange(block_bytes))
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1 << chance.randrange(8)]))


def test_what_comes_late_or_damaged_changes_no_token(model: str, tmp_path: Path) -> None:
    chance = random.Random(0)
    history = [chance.randrange(1000, 30_000) for _ in range(NUM_HISTORY)]
    turns = [history + [chance.randrange(1000, 30_000) for _ in range(NUM_NEW)] for _ in range(3)]
    alone = start(model, None)
    expected = []
    for turn in turns:
        expected.append(generate(alone, turn, greedy(8, ignore_eos=True)).tokens)
        alone.cache.clear()
    first = start(model, tmp_path)
    block_bytes = first.cache.allocator.block_bytes
    generate(first, history, greedy(1))
    first.close()
    slow = start(model, tmp_path, LOAD_S)
    num_blocks = NUM_HISTORY // BLOCK
    for number, (turn, tokens) in enumerate(zip(turns, expected, strict=True)):
        if number == 2:
            damage(tmp_path, block_bytes, chance.randrange(num_blocks // 2, num_blocks), chance)
        slow.cache.clear()
        done = generate(slow, turn, greedy(8, ignore_eos=True))
        assert done.tokens == tokens, f"turn {number}"
        assert done.last is not None
        num_cached = done.last.num_cached_tokens
        assert num_cached == num_blocks * BLOCK if number < 2 else 0 < num_cached < num_blocks * 32
    stats = slow.stats()
    assert (stats.context_early_starts, stats.context_rewinds) == (3, 1)
    slow.close()
