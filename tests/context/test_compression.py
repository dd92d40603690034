"""KV that takes fewer bytes on disk than in memory."""

from pathlib import Path

import numpy as np
import pytest

from artesian import LLM, SamplingParams
from artesian.context import Compression, DiskTier
from artesian.context.base import ContextCacheError, Outcome
from artesian.kvcache import Arena

LAYERS, HEADS, HEAD_DIM, TOKENS = 4, 2, 64, 32
NUM_BLOCKS = 8
ZSTD = Compression("zstd", (LAYERS, HEADS, HEAD_DIM, TOKENS, "f16", "none"))
INT8 = Compression("int8", (LAYERS, HEADS, HEAD_DIM, TOKENS, "f16", "none"))
BLOCK_NUMBERS = LAYERS * HEADS * 2 * TOKENS * HEAD_DIM


def make(path: Path, compression: Compression | None) -> tuple[DiskTier, Arena]:
    """A tier, and an arena whose first half is full of numbers as KV has them."""
    arena = Arena(2 * NUM_BLOCKS, BLOCK_NUMBERS * 2, LAYERS)
    chance = np.random.default_rng(1)
    numbers = chance.normal(0, 1, NUM_BLOCKS * BLOCK_NUMBERS).astype(np.float16)
    arena.memory[: numbers.nbytes] = numbers.view(np.uint8)
    return DiskTier(path, 1 << 30, arena, 1 << 30, compression=compression), arena


def drain(tier: DiskTier) -> set[Outcome]:
    ended = tier.poll()
    while tier.num_open:
        tier.wait(1.0)
        ended += tier.poll()
    return {done.outcome for done in ended + tier.poll()}


NAMES = [number.to_bytes(32, "little") for number in range(NUM_BLOCKS)]


def save(path: Path, compression: Compression | None) -> int:
    """Bytes on the disk."""
    tier, _ = make(path, compression)
    for block, name in enumerate(NAMES):
        assert tier.save(name, block) is not None
    assert drain(tier) == {"saved"}
    return sum(entry.num_bytes for entry in tier.entries())


def load(path: Path, compression: Compression | None) -> tuple[np.ndarray, np.ndarray]:
    """What was saved, and what comes back."""
    tier, arena = make(path, compression)
    tier.load(NAMES, range(NUM_BLOCKS, 2 * NUM_BLOCKS))
    assert drain(tier) == {"hit"}
    saved, loaded = arena.memory.view(np.float16).reshape(2, -1).astype(np.float32)
    return saved, loaded


@pytest.mark.parametrize("reader", [None, ZSTD, INT8])
@pytest.mark.parametrize("writer", [None, ZSTD])
def test_what_is_exact_is_read_by_all(
    tmp_path: Path, writer: Compression | None, reader: Compression | None
) -> None:
    save(tmp_path, writer)
    saved, loaded = load(tmp_path, reader)
    assert np.array_equal(saved, loaded)


def test_rounded_numbers_are_off_by_half_a_step(tmp_path: Path) -> None:
    plain = save(tmp_path / "plain", None)
    assert save(tmp_path / "zstd", ZSTD) < 0.95 * plain
    assert save(tmp_path / "int8", INT8) < 0.6 * plain
    saved, loaded = load(tmp_path / "int8", INT8)
    sides = zip(
        saved.reshape(-1, HEAD_DIM * TOKENS), loaded.reshape(-1, HEAD_DIM * TOKENS), strict=True
    )
    for number, (before, after) in enumerate(sides):
        # Keys lie number by number, values token by token.
        is_key = number % 2 == 0
        shape = (HEAD_DIM, TOKENS) if is_key else (TOKENS, HEAD_DIM)
        largest = np.abs(before.reshape(shape)).max(axis=0 if is_key else 1, keepdims=True)
        error = np.abs(after - before).reshape(shape)
        assert (error <= largest / 254 + largest * 2**-11).all()
    assert not np.array_equal(saved, loaded)


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    wrong = Compression("int8", (LAYERS, HEADS, HEAD_DIM, TOKENS, "int8", "none"))
    with pytest.raises(ContextCacheError, match="int8 already"):
        make(tmp_path, wrong)


@pytest.mark.slow
def test_rounded_and_exact_kv_do_not_mix(smollm2_path: Path, tmp_path: Path) -> None:
    prompt = [1_000 + 37 * i % 30_000 for i in range(200)]
    greedy = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)

    def answer(compression: str) -> tuple[list[int], int]:
        small = {"kv_cache_memory_bytes": 1 << 26, "max_model_len": 512}
        settings = {"context_cache_dir": tmp_path, "context_cache_compression": compression}
        with LLM(str(smollm2_path), **small, **settings) as llm:
            [result] = llm.generate([prompt], greedy)
            (tier,) = llm.engine.stats().context_tiers
        return list(result.outputs[0].token_ids), tier.loaded_blocks

    exact = answer("none")
    assert exact[1] == 0
    assert answer("zstd") == (exact[0], 6)
    assert answer("int8")[1] == 0
    assert answer("int8")[1] == 6
    assert answer("none") == (exact[0], 6)
