"""Prefixes that are computed from the front while their tails come from a slow tier."""

import random
import time
from pathlib import Path

import pytest

from artesian.engine.base import Request
from artesian.engine.engine import LLMEngine
from tests.context.test_preload import NUM_BLOCKS, PROMPT, expected, flip, saved, settle
from tests.engine.toy import assert_no_leak, generate, greedy, make_engine, run, toy_runner

BYTES_PER_S = 400.0
"""A block of the toy model has 32 bytes: so many take a second and more."""


def slow_engine(directory: Path, computing_s: float, loading_s: float) -> LLMEngine:
    """An engine over a slow disk that believes that a block takes so long to compute and to load,
    and takes that long to compute."""
    engine = make_engine(
        context_dir=directory, context_bytes_per_s=BYTES_PER_S, max_num_batched_tokens=8
    )
    context = engine._context
    assert context is not None
    context.observe_prefill(4, computing_s)
    for num_blocks in (1, 10):
        context.shelves[0].gate.observe_load(num_blocks, num_blocks * loading_s)
    runner = toy_runner(engine)
    forward = runner.forward

    def slower(batch):  # type: ignore[no-untyped-def]
        time.sleep(computing_s * len(batch.tokens) / 4)
        return forward(batch)

    runner.forward = slower  # type: ignore[method-assign]
    return engine


def test_the_front_is_computed_while_the_tail_comes(tmp_path: Path) -> None:
    saved(tmp_path)
    engine = slow_engine(tmp_path, 0.1, 0.08)
    done = generate(engine, PROMPT, greedy(8))
    assert done.tokens == expected(PROMPT, 8)
    assert done.last is not None
    num_loaded = done.last.num_cached_tokens // 4
    assert 4 <= num_loaded <= 12
    assert toy_runner(engine).num_rows == len(PROMPT) - 4 * num_loaded + 7
    stats = engine.stats()
    assert stats.prefix_cache_hits_tokens == 4 * num_loaded
    assert stats.prefix_cache_queries_tokens == len(PROMPT)
    settle(engine)
    assert_no_leak(engine)
    again = generate(engine, [*PROMPT, 5], greedy(8))
    assert again.last is not None and again.last.num_cached_tokens == 4 * NUM_BLOCKS
    assert again.tokens == expected([*PROMPT, 5], 8)
    settle(engine)


def test_a_tail_that_does_not_come_in_time_is_computed(tmp_path: Path) -> None:
    saved(tmp_path)
    engine = slow_engine(tmp_path, 0.004, 0.005)  # in truth it takes twenty times as long
    done = generate(engine, PROMPT, greedy(8))
    assert done.tokens == expected(PROMPT, 8)
    assert done.last is not None and done.last.num_cached_tokens == 0
    assert toy_runner(engine).num_rows == len(PROMPT) + 7
    settle(engine)
    assert_no_leak(engine)


@pytest.mark.parametrize("block", range(NUM_BLOCKS))
def test_a_damaged_tail_is_computed(tmp_path: Path, block: int) -> None:
    saved(tmp_path)
    flip(tmp_path, block)
    engine = slow_engine(tmp_path, 0.1, 0.08)
    done = generate(engine, PROMPT, greedy(8))
    assert done.tokens == expected(PROMPT, 8)
    settle(engine)
    assert_no_leak(engine)


def test_an_abort_gives_front_and_tail_back(tmp_path: Path) -> None:
    saved(tmp_path)
    engine = slow_engine(tmp_path, 0.1, 0.08)
    engine.add_request(Request(request_id="a", prompt_token_ids=PROMPT, sampling=greedy(8)))
    engine.step()
    engine.step()
    assert engine._scheduler.running[0].tail is not None
    engine.abort("a")
    engine.step()
    settle(engine)
    assert_no_leak(engine)
    assert generate(engine, PROMPT, greedy(8)).tokens == expected(PROMPT, 8)
    settle(engine)


@pytest.mark.parametrize("seed", range(6))
def test_company_changes_no_token(tmp_path: Path, seed: int) -> None:
    """Requests with the same beginnings, little memory, priorities, and aborts."""
    rng = random.Random(seed)
    saved(tmp_path)
    engine = slow_engine(tmp_path, 0.01, rng.choice([0.008, 0.012, 0.05]))
    requests = [
        Request(
            request_id=str(i),
            prompt_token_ids=PROMPT[: rng.randrange(20, 61)] + [61 + i] * rng.randrange(1, 9),
            sampling=greedy(6),
            priority=rng.randrange(2),
        )
        for i in range(6)
    ]
    done = run(engine, *requests)
    for request in requests:
        tokens = done[request.request_id].tokens
        assert tokens == expected(list(request.prompt_token_ids), 6)
    settle(engine)
    assert_no_leak(engine)
