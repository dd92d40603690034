"""What is known of guesses."""

import random

import pytest

from artesian.speculate import Acceptance
from artesian.speculate.acceptance import expected_tokens


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.7, 0.95, 1.0])
def test_it_finds_the_rate_of_geometric_rounds(rate: float) -> None:
    draw, acceptance = random.Random(1), Acceptance()
    rates = []
    for _ in range(2000):
        right = 0
        while right < 6 and draw.random() < rate:
            right += 1
        acceptance.observe(6, right)
        rates.append(acceptance.rate)
    # The prior pulls towards 0.8 a little, as only some ten rounds count.
    assert sum(rates[100:]) / len(rates[100:]) == pytest.approx(rate, abs=0.15)


def test_without_rounds_it_believes_the_prior() -> None:
    shared = Acceptance()
    for _ in range(50):
        Acceptance(shared).observe(4, 0)
    assert shared.rate < 0.4
    assert Acceptance(shared).rate == pytest.approx(shared.rate)


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.9, 1.0])
def test_expected_tokens_are_those_of_a_drawn_round(rate: float) -> None:
    slow = 1.0 + sum(rate**k for k in range(1, 6))
    assert expected_tokens(rate, 5) == pytest.approx(slow)
