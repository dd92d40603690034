"""KV that comes back from disk: never a wrong token, whatever happens to the files."""

import random
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from artesian.context import ContextCache, Done, Tier
from artesian.context.shelf import TierStats
from artesian.engine.base import Request
from artesian.engine.engine import LLMEngine
from tests.engine.toy import assert_no_leak, generate, greedy, make_engine, run

PROMPT = [1 + i % 60 for i in range(61)]


def context_of(engine: LLMEngine) -> ContextCache:
    context = engine._context
    assert context is not None
    return context


def stats_of(engine: LLMEngine) -> TierStats:
    return context_of(engine).shelves[0].stats


def close(engine: LLMEngine) -> None:
    engine.close()
    assert not context_of(engine).is_busy
    assert_no_leak(engine)


def settle(engine: LLMEngine) -> None:
    while engine.has_work() or context_of(engine).is_busy:
        engine.step()
        context_of(engine).wait(1.0)


def expected(prompt: list[int], num_tokens: int = 16) -> list[int]:
    return generate(make_engine(), prompt, greedy(num_tokens)).tokens


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.kv"))


def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    first = make_engine(context_dir=tmp_path)
    tokens = generate(first, PROMPT, greedy()).tokens
    assert tokens == expected(PROMPT)
    close(first)
    assert stats_of(first).num_saved_blocks == (len(PROMPT) + 15) // 4
    second = make_engine(context_dir=tmp_path)
    turn = [*PROMPT, *tokens, 7, 8, 9]
    done = generate(second, turn, greedy())
    assert done.tokens == expected(turn)
    assert done.last is not None and done.last.num_cached_tokens == 76
    assert stats_of(second).num_loaded_blocks == 19
    close(second)


def test_what_the_arena_has_no_room_for_comes_back(tmp_path: Path) -> None:
    engine = make_engine(num_blocks=40, context_dir=tmp_path)
    prompts = [[start, *PROMPT] for start in range(8)]
    for prompt in prompts + prompts:
        assert generate(engine, prompt, greedy()).tokens == expected(prompt)
    context = context_of(engine)
    assert context.shelves[0].stats.num_loaded_blocks > 60
    (counts,) = engine.stats().context_tiers
    assert counts.loaded_blocks == stats_of(engine).num_loaded_blocks
    assert counts.used_bytes == context.shelves[0].tier.used_bytes > 0
    close(engine)


def test_waiting_requests_fetch_ahead_and_equal_ones_share(tmp_path: Path) -> None:
    first = make_engine(context_dir=tmp_path)
    generate(first, PROMPT, greedy())
    close(first)
    second = make_engine(context_dir=tmp_path, max_num_seqs=1)
    requests = [
        Request(request_id=str(i), prompt_token_ids=[*PROMPT, i % 2], sampling=greedy(4))
        for i in range(4)
    ]
    done = run(second, *requests)
    for i in range(4):
        assert done[str(i)].tokens == expected([*PROMPT, i % 2], 4)
    assert stats_of(second).num_loaded_blocks == 15
    close(second)


def test_two_servers_share_a_directory(tmp_path: Path) -> None:
    one, other = (make_engine(context_dir=tmp_path) for _ in range(2))
    generate(one, PROMPT, greedy())
    one.close()
    until = time.monotonic() + 20
    entries = context_of(other).shelves[0].tier.entries
    while len(entries()) < 15 and time.monotonic() < until:
        time.sleep(0.02)
    assert generate(other, PROMPT, greedy()).tokens == expected(PROMPT)
    assert stats_of(other).num_loaded_blocks == 15
    close(one)
    close(other)


class HangingTier:
    """A disk tier whose loads come to no end until it is told so."""

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self._held: list[Done] = []
        self.hangs = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tier, name)

    def wait(self, timeout_s: float) -> bool:
        time.sleep(0.01)
        return not self.hangs

    def poll(self) -> list[Done]:
        self._held += self._tier.poll()
        if self.hangs:
            return []
        ended, self._held = self._held, []
        return ended


def test_a_disk_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    first = make_engine(context_dir=tmp_path)
    generate(first, PROMPT, greedy())
    close(first)
    second = make_engine(context_dir=tmp_path)
    context = context_of(second)
    (shelf,) = context.shelves
    shelf.tier = tier = HangingTier(shelf.tier)
    assert generate(second, PROMPT, greedy()).tokens == expected(PROMPT)
    assert context.shelves[0].stats.num_loaded_blocks == 0
    assert context.is_busy
    tier.hangs = False
    close(second)
    assert context.shelves[0].stats.num_loaded_blocks == 15, "what comes late is of use to others"


def test_what_others_have_filled_makes_room_too(tmp_path: Path) -> None:
    bound = 60 * 8192
    late = make_engine(context_dir=tmp_path, context_bytes=bound)
    other = make_engine(context_dir=tmp_path, context_bytes=bound)
    for start in range(4):
        generate(other, [start, *PROMPT], greedy(1))
        settle(other)
    close(other)
    for start in range(20, 24):
        generate(late, [start, *PROMPT], greedy(1))
        settle(late)
    assert stats_of(late).num_evicted_blocks > 0
    assert stats_of(late).num_saved_blocks > 15
    close(late)


def test_what_memory_serves_stays_on_disk_too(tmp_path: Path) -> None:
    engine = make_engine(num_blocks=256, context_dir=tmp_path, context_bytes=60 * 8192)
    for start in range(12):
        generate(engine, PROMPT, greedy(1))  # from memory, but for the first time
        generate(engine, [start + 2, *PROMPT], greedy(1))
        settle(engine)
    engine.close()
    assert stats_of(engine).num_evicted_blocks > 30
    assert stats_of(engine).num_loaded_blocks == 0
    later = make_engine(context_dir=tmp_path, context_bytes=60 * 8192)
    assert generate(later, PROMPT, greedy()).tokens == expected(PROMPT)
    assert stats_of(later).num_loaded_blocks == 15
    close(later)


def test_an_aborted_request_leaves_nothing_behind(tmp_path: Path) -> None:
    first = make_engine(context_dir=tmp_path)
    generate(first, PROMPT, greedy())
    close(first)
    second = make_engine(context_dir=tmp_path)
    second.add_request(Request(request_id="a", prompt_token_ids=PROMPT, sampling=greedy()))
    second.step()
    second.abort("a")
    settle(second)
    close(second)
    assert generate(second, PROMPT, greedy()).tokens == expected(PROMPT)


def test_the_bound_holds(tmp_path: Path) -> None:
    bound = 60 * 8192
    engine = make_engine(context_dir=tmp_path, context_bytes=bound)
    for start in range(20):
        prompt = [start, *PROMPT]
        assert generate(engine, prompt, greedy()).tokens == expected(prompt)
        settle(engine)  # the toy computes more quickly than any disk writes
        found = [path.stat().st_blocks * 512 for path in files(tmp_path)]
        assert sum(found) <= bound + 4096 * len(found)  # file systems take some for themselves
    engine.close()
    stats = stats_of(engine)
    assert stats.num_evicted_blocks > 30
    last = make_engine(context_dir=tmp_path, context_bytes=bound)
    generate(last, [19, *PROMPT], greedy())
    assert stats_of(last).num_loaded_blocks > 0, "the newest are still there"


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """The system refuses to make files longer than that, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_only_hits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine(context_dir=tmp_path)
    with files_of_at_most(5 * 8192):
        for start in range(3):
            prompt = [start, *PROMPT]
            assert generate(engine, prompt, greedy()).tokens == expected(prompt)
        engine.close()
    stats = stats_of(engine)
    assert stats.num_saved_blocks == 5
    assert stats.num_unsaved_blocks > 0
    assert len([r for r in caplog.records if "disk tier" in r.message]) == 1
    assert generate(engine, [9, *PROMPT], greedy()).tokens == expected([9, *PROMPT])
    engine.close()
    assert stats.num_saved_blocks > 5, "it saves again when there is room"


def damage(directory: Path, chance: random.Random) -> None:
    """Flips a bit, cuts a file short, or deletes it."""
    found = files(directory)
    if not found:
        return
    path = chance.choice(found)
    size = path.stat().st_size
    what = chance.random()
    if what < 0.7 and size:
        with path.open("r+b") as file:
            file.seek(chance.randrange(size // 64) * 64)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1 << chance.randrange(8)]))
    elif what < 0.9 and size:
        with path.open("r+b") as file:
            file.truncate(chance.randrange(size))
    else:
        path.unlink()


@pytest.mark.parametrize("seed", range(4))
def test_no_fault_changes_a_token(tmp_path: Path, seed: int) -> None:
    """Conversations that go on, restarts, two servers, and files that are damaged meanwhile."""
    chance = random.Random(seed)
    reference = make_engine(num_blocks=256)
    bound = chance.choice([100 * 8192, 1 << 30])

    def start() -> LLMEngine:
        return make_engine(num_blocks=40, context_dir=tmp_path, context_bytes=bound)

    engines = [start(), start()]
    conversations: list[list[int]] = [[i] for i in range(6)]
    loaded = failed = 0
    for turn in range(250):
        number = chance.randrange(len(conversations))
        prompt = conversations[number]
        prompt += [chance.randrange(60) for _ in range(chance.randrange(1, 9))]
        engine = chance.choice(engines)
        tokens = generate(engine, prompt, greedy(5)).tokens
        assert tokens == generate(reference, prompt, greedy(5)).tokens, f"turn {turn}"
        prompt += [token for token in tokens if token < 60]
        if len(prompt) > 100:
            conversations[number] = prompt[:3]
        if chance.random() < 0.1:
            with suppress(FileNotFoundError):  # a server has just deleted it
                damage(tmp_path, chance)
        if chance.random() < 0.1:
            which = chance.randrange(2)
            engines[which].close()
            stats = stats_of(engines[which])
            loaded, failed = loaded + stats.num_loaded_blocks, failed + stats.num_failed_loads
            engines[which] = start()
    for engine in engines:
        engine.close()
        assert_no_leak(engine)
    assert loaded > 50
    assert failed > 0
