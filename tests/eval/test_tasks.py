"""Tasks: their answers are in their contexts, once, and samples are the same for the same seed."""

import pytest

from artesian.eval.tasks import TASKS, Passkey, Task
from artesian.eval.tasks.base import Haystack

PROSE = [f" Sentence number {word} says nothing." for word in ("one", "two", "three", "four")]


def encode(text: str) -> list[int]:
    """A token a character, so that token ids can be read."""
    return [ord(letter) for letter in text]


def decode(tokens: tuple[int, ...]) -> str:
    return "".join(map(chr, tokens))


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_answers_are_in_the_context(task: Task) -> None:
    for seed in range(5):
        sample = task.sample(seed, 3000, encode, PROSE)
        text = decode(sample.context)
        assert 2900 < len(sample.context) <= 3000
        assert sample.questions
        for question in sample.questions:
            for first, end in question.answers:
                answer = decode(question.tokens[first:end]).strip()
                assert answer in text
                # Nothing in the question gives its own answer away.
                assert answer not in decode(question.tokens[:first])
            assert question.answers[-1][1] == len(question.tokens)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_samples_come_from_their_seed(task: Task) -> None:
    first = task.sample(3, 2000, encode, PROSE)
    assert task.sample(3, 2000, encode, PROSE) == first
    assert task.sample(4, 2000, encode, PROSE) != first


@pytest.mark.parametrize("name", ["passkey", "key-value", "needles-4"])
def test_too_short_for_what_is_hidden(name: str) -> None:
    with pytest.raises(ValueError, match="too short"):
        TASKS[name].sample(0, 60, encode, PROSE)


def test_depths_are_where_they_are_asked_for() -> None:
    for depth, expected in ((0.0, "<>abcabcabc"), (0.34, "abc<>abcabc"), (1.0, "abcabcabc<>")):
        haystack = Haystack("", ["abc"], [(depth, "<>")])
        assert decode(haystack.tokens(12, encode)) == expected


def test_every_needle_has_a_question_of_its_own() -> None:
    sample = TASKS["needles-4"].sample(0, 3000, encode, PROSE)
    assert len({question.tokens for question in sample.questions}) == 4
    (missing,) = {
        len({decode(q.tokens[slice(*q.answers[0])]) for q in sample.questions})
        for sample in [TASKS["values-3"].sample(0, 3000, encode, PROSE)]
    }
    assert missing == 3


def test_filler_of_the_passkey_is_its_own() -> None:
    text = decode(Passkey().sample(0, 1000, encode, PROSE).context)
    assert "The grass is green" in text and "Sentence" not in text
