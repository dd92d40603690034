"""The length follows from what steps take, on machines whose times are known exactly."""

from dataclasses import dataclass

import pytest

from artesian.speculate import AdaptiveLength, Situation, StepTime
from artesian.speculate.acceptance import expected_tokens


@dataclass
class Machine:
    """Times of a plain step, a draft, and of each further row that is verified."""

    plain: float
    draft: float
    row: float

    def run(self, policy: AdaptiveLength, situation: Situation, rounds: int) -> list[int]:
        """Goes through rounds; returns their lengths."""
        lengths = []
        n, context = situation.num_sequences, situation.context_tokens
        for _ in range(rounds):
            length = policy.choose(situation)
            lengths.append(length)
            if length == 0:
                policy.observe(StepTime("plain", n, n, context, self.plain))
                continue
            for _ in range(length):
                policy.observe(StepTime("draft", n, n, context, self.draft))
            more = length * len(situation.acceptances)
            seconds = self.plain + more * self.row
            policy.observe(StepTime("verify", n, n + more, context, seconds))
        return lengths

    def best(self, situation: Situation, most: int) -> int:
        """The length with the most expected tokens a second, worked out from the true times."""

        def speed(length: int) -> float:
            tokens = sum(expected_tokens(a, length) for a in situation.acceptances)
            tokens += situation.num_others * (length + 1)
            rows = length * len(situation.acceptances)
            return tokens / (length * self.draft + self.plain + rows * self.row)

        return max(range(most + 1), key=speed)


CASES = [
    (Machine(40, 9, 7), Situation(8000, [0.9])),
    (Machine(40, 9, 7), Situation(8000, [0.6])),
    (Machine(40, 20, 4), Situation(8000, [0.95, 0.8])),
    (Machine(40, 12, 3), Situation(8000, [0.9], num_others=3)),
    (Machine(10, 1, 0.5), Situation(300, [0.99])),
]


@pytest.mark.parametrize(("machine", "situation"), CASES)
def test_it_settles_on_the_best_length(machine: Machine, situation: Situation) -> None:
    policy = AdaptiveLength(8)
    lengths = machine.run(policy, situation, 40)
    best = machine.best(situation, 8)
    assert best > 0
    assert set(lengths[20:]) == {best}


@pytest.mark.parametrize(
    ("machine", "situation"),
    [
        (Machine(10, 9.5, 1), Situation(128, [0.99])),
        (Machine(40, 9, 7), Situation(8000, [0.1])),
        (Machine(10, 4, 9), Situation(1000, [0.9])),
    ],
)
def test_it_switches_itself_off_where_guesses_do_not_pay(
    machine: Machine, situation: Situation
) -> None:
    lengths = machine.run(AdaptiveLength(8), situation, 2000)
    assert sum(length > 0 for length in lengths[20:]) < 10, "trials become rare"
    assert any(lengths[20:]), "and do not end"


def test_it_comes_back_when_the_machine_changes() -> None:
    policy, situation = AdaptiveLength(8), Situation(5000, [0.9])
    assert Machine(10, 9, 5).run(policy, situation, 100)[-1] == 0
    assert Machine(40, 9, 5).run(policy, situation, 1000)[-1] > 0


def test_contexts_and_batches_of_other_sizes_are_measured_for_themselves() -> None:
    policy = AdaptiveLength(8)
    assert Machine(40, 9, 5).run(policy, Situation(5000, [0.9]), 60)[-1] > 0
    assert Machine(10, 9, 5).run(policy, Situation(100, [0.9]), 60)[-1] == 0
    assert policy.choose(Situation(5000, [0.9])) > 0


def test_a_clock_that_stands_still_is_no_reason_to_guess() -> None:
    policy = AdaptiveLength(4)
    assert Machine(0, 0, 0).run(policy, Situation(100, [0.9]), 20)[-1] == 0
