"""What waiting requests need comes up from disk into the pool before their turn."""

import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from artesian.engine.base import Request
from artesian.engine.engine import LLMEngine
from artesian.pool import Pool, PoolError
from tests.context.test_context_cache import PROMPT, close, context_of, expected, settle
from tests.engine.toy import Collected, collect, generate, greedy, make_engine

NUM_JOBS = 14


@pytest.fixture
def pool() -> Iterator[str]:
    """The name of a pool that is not there yet; removed at the end."""
    name = f"test-promoter-{os.getpid()}-{random.randrange(1 << 30)}"
    yield name
    with suppress(PoolError):
        Pool.remove(name)


def prompt(number: int) -> list[int]:
    return [number, *PROMPT]


def fill(directory: Path) -> None:
    """All prompts are on disk."""
    engine = make_engine(context_dir=directory)
    for number in range(NUM_JOBS):
        generate(engine, prompt(number), greedy(4))
        settle(engine)
    close(engine)


def queued(engine: LLMEngine) -> None:
    """All requests wait; none has run yet."""
    for number in range(NUM_JOBS):
        engine.add_request(
            Request(request_id=str(number), prompt_token_ids=prompt(number), sampling=greedy(4))
        )


def abort_all(engine: LLMEngine) -> None:
    for number in range(NUM_JOBS):
        engine.abort(str(number))


def in_pool(engine: LLMEngine, number: int) -> int:
    """How many blocks of a waiting request the pool has."""
    (sequence,) = [
        s for s in engine._scheduler.waiting if s.state.request.request_id == str(number)
    ]
    return context_of(engine).shelves[0].tier.find(sequence.hashes)


def poll_until(engine: LLMEngine, number: int, num_blocks: int) -> None:
    until = time.monotonic() + 20
    while in_pool(engine, number) < num_blocks and time.monotonic() < until:
        context_of(engine).poll()
        time.sleep(0.005)


def test_the_tail_of_the_queue_comes_up(pool: str, tmp_path: Path) -> None:
    fill(tmp_path)
    engine = make_engine(context_pool=pool, context_dir=tmp_path, max_num_seqs=1)
    queued(engine)
    assert in_pool(engine, NUM_JOBS - 1) == 0
    poll_until(engine, NUM_JOBS - 1, 15)
    assert in_pool(engine, NUM_JOBS - 1) == 15
    assert context_of(engine).shelves[0].stats.num_saved_blocks >= 15
    done: dict[tuple[str, int], Collected] = {}
    while engine.has_work():
        collect(engine.step(), done)
    for number in range(NUM_JOBS):
        assert done[str(number), 0].tokens == expected(prompt(number), 4)
    assert context_of(engine).shelves[0].stats.num_loaded_blocks >= 15
    settle(engine)
    close(engine)


def test_what_was_deleted_does_not_come_back(pool: str, tmp_path: Path) -> None:
    fill(tmp_path)
    engine = make_engine(context_pool=pool, context_dir=tmp_path, max_num_seqs=1)
    queued(engine)
    context = context_of(engine)
    hashes = list(engine._scheduler.waiting[-1].hashes)
    assert context.find(hashes) == {"host": 0, "disk": 15}
    for _ in range(20):  # at some point of its way up
        context.poll()
        time.sleep(random.random() * 0.01)
        if context._promoter is not None and context._promoter.num_open:
            break
    context.discard(hashes)
    until = time.monotonic() + 20
    while (context.is_busy or context.is_discarding(hashes)) and time.monotonic() < until:
        context.poll()
        time.sleep(0.002)
    for _ in range(10):
        context.poll()
        time.sleep(0.01)
    assert context.find(hashes) == {"host": 0, "disk": 0}
    abort_all(engine)
    close(engine)


def test_nothing_moves_without_a_queue(pool: str, tmp_path: Path) -> None:
    fill(tmp_path)
    engine = make_engine(context_pool=pool, context_dir=tmp_path)
    queued(engine)
    abort_all(engine)
    for _ in range(10):
        context_of(engine).poll()
        time.sleep(0.01)
    assert context_of(engine).shelves[0].stats.num_saved_blocks == 0
    assert not context_of(engine).is_busy
    close(engine)
