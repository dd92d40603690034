"""Whatever is cached, lost or under way: an answer is one that some reading of the stream gives."""

import random
from pathlib import Path

import pytest

from artesian.engine.base import Request
from artesian.engine.engine import LLMEngine
from tests.engine.toy import assert_no_leak, generate, greedy, make_engine, run
from tests.engine.window_twin import WINDOW, make, readings

NUM_TURNS = 40
ANSWER = 7


class Conversations:
    """A few that begin alike, grow by leaps, and are now and then taken up at an earlier turn."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        common = self.tokens(10)
        self.streams = [common[:], common[:], self.tokens(3)]

    def tokens(self, count: int) -> list[int]:
        return [self.rng.randrange(60) for _ in range(count)]

    def turn(self) -> list[int]:
        stream = self.rng.choice(self.streams)
        if self.rng.random() < 0.2:
            del stream[self.rng.randrange(len(stream) // 2, len(stream)) + 1 :]
        stream += self.tokens(self.rng.choice([1, 5, 12, 30, 70]))
        return stream


def damage(engine: LLMEngine, rng: random.Random, directory: Path) -> None:
    """Takes something out of memory or off the disk."""
    kind = rng.random()
    if kind < 0.2:
        engine.cache.clear()
    elif kind < 0.4:
        cached = list(engine.cache._block_of)
        engine.cache.drop(rng.sample(cached, len(cached) // 3))
    elif kind < 0.5:
        for path in directory.glob("*.kv"):
            with path.open("r+b") as file:
                file.seek(rng.randrange(max(path.stat().st_size, 1)))
                file.write(b"?")


@pytest.mark.parametrize("seed", range(6))
def test_turns_one_after_the_other(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    sinks = rng.choice([0, 4, 9])
    has_disk = seed % 2 == 1
    config = {"num_blocks": rng.choice([13, 20, 60]), "context_dir": tmp_path if has_disk else None}
    engine = make(sinks, **config)
    conversations = Conversations(rng)
    for _ in range(NUM_TURNS):
        stream = conversations.turn()
        done = generate(engine, stream, greedy(ANSWER))
        assert done.tokens in readings(stream, ANSWER, sinks)
        stream += done.tokens
        damage(engine, rng, tmp_path)
        if has_disk and rng.random() < 0.2:
            engine.close()
            engine = make(sinks, **config)
    engine.close()
    assert_no_leak(engine)
    stats = engine.stats()
    assert has_disk or stats.context_overflows > 0


@pytest.mark.parametrize("seed", range(4))
def test_many_at_once(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    context_dir = tmp_path if seed % 2 else None
    engine = make(4, num_blocks=rng.choice([16, 40]), max_num_seqs=6, context_dir=context_dir)
    conversations = Conversations(rng)
    for number in range(10):
        streams = [list(conversations.turn()) for _ in range(5)]
        requests = [
            Request(
                request_id=str(index),
                prompt_token_ids=stream,
                sampling=greedy(ANSWER),
                priority=rng.randrange(2),
            )
            for index, stream in enumerate(streams)
        ]
        done = run(engine, *requests)
        for index, stream in enumerate(streams):
            # One that has to give up its blocks may go on from another reading than it began with.
            first = done[str(index)].tokens[0]
            assert first in {answer[0] for answer in readings(stream, 1, 4)}, number
    engine.close()
    assert_no_leak(engine)


def test_what_fits_is_as_it_would_be_without_truncation() -> None:
    rng = random.Random(5)
    engine, plain = make(), make_engine(max_model_len=WINDOW + 1)
    for _ in range(20):
        prompt = [rng.randrange(60) for _ in range(rng.randrange(1, WINDOW - ANSWER))]
        done, wanted = (generate(each, prompt, greedy(ANSWER)) for each in (engine, plain))
        assert done.tokens == wanted.tokens
        assert done.last is not None and done.last.num_truncated_tokens == 0
