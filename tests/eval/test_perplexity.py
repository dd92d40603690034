"""Perplexity against its definition, on models small enough to work out by hand."""

import math

import numpy as np
import pytest

from artesian.engine.batch import Batch
from artesian.eval import difference, perplexity
from artesian.ops.base import F32


class Follower:
    """Gives the token after the last one logit `sharpness`; checks that rows arrive in order."""

    def __init__(self, sharpness: float, vocab_size: int = 10) -> None:
        self.sharpness = sharpness
        self.vocab_size = vocab_size
        self.longest_context = 0
        self.next_position = 0

    def forward(self, batch: Batch) -> F32:
        if batch.positions[0] == 0:
            self.next_position = 0
        assert batch.positions[0] == self.next_position
        self.next_position = int(batch.positions[-1]) + 1
        assert batch.context_lens[0] == self.next_position
        self.longest_context = max(self.longest_context, self.next_position)
        assert len(batch.block_tables[0]) * 4 >= self.next_position
        logits = np.zeros((len(batch.logit_rows), self.vocab_size), np.float32)
        followers = (batch.tokens[batch.logit_rows] + 1) % self.vocab_size
        logits[np.arange(len(followers)), followers] = self.sharpness
        return logits


COUNTING = [i % 10 for i in range(200)]


def measure(runner: Follower, tokens: list[int], window: int = 32, stride: int = 16) -> float:
    result = perplexity(
        runner, tokens, window_tokens=window, stride_tokens=stride, block_size_tokens=4
    )
    assert result.num_tokens == len(tokens) - 1
    return result.value


def test_guessing_is_the_size_of_the_vocabulary() -> None:
    assert measure(Follower(0.0), COUNTING) == pytest.approx(10)


def test_knowing_is_one() -> None:
    assert measure(Follower(100.0), COUNTING) == pytest.approx(1)


def test_known_distribution() -> None:
    expected = (math.exp(2) + 9) / math.exp(2)
    assert measure(Follower(2.0), COUNTING) == pytest.approx(expected)


@pytest.mark.parametrize(("window", "stride"), [(8, 1), (8, 7), (150, 100), (1000, 500), (70, 3)])
def test_every_token_counts_once(window: int, stride: int) -> None:
    runner = Follower(2.0)
    expected = (math.exp(2) + 9) / math.exp(2)
    assert measure(runner, COUNTING, window, stride) == pytest.approx(expected)
    assert runner.longest_context < window


def test_first_token_begins_each_window() -> None:
    runner = Follower(100.0)
    result = perplexity(
        runner,
        COUNTING,
        window_tokens=9,
        stride_tokens=7,
        block_size_tokens=4,
        first_token_id=9,
    )
    assert result.value == pytest.approx(1)


def test_interval_holds_the_value() -> None:
    noise = [int(i) for i in np.random.RandomState(0).randint(0, 10, 500)]
    result = perplexity(
        Follower(2.0), noise, window_tokens=64, stride_tokens=32, block_size_tokens=4
    )
    low, high = result.interval_95
    assert low < result.value < high
    same = difference(result, result)
    assert (same.mean_nats, same.half_width_nats, same.ratio) == (0, 0, 1)
    worse = perplexity(
        Follower(4.0), noise, window_tokens=64, stride_tokens=32, block_size_tokens=4
    )
    assert difference(worse, result).mean_nats == pytest.approx(worse.mean_nats - result.mean_nats)


@pytest.mark.parametrize(("window", "stride", "tokens"), [(8, 8, 20), (8, 0, 20), (8, 4, 1)])
def test_nothing_to_count(window: int, stride: int, tokens: int) -> None:
    with pytest.raises(ValueError, match="cannot count"):
        measure(Follower(1.0), COUNTING[:tokens], window, stride)
