"""Needles: magic numbers in prose, each under a name."""

import random
from collections.abc import Sequence

from artesian.eval.tasks.base import Encode, Haystack, Question, Sample, ask, digits
from artesian.eval.tasks.names import names

_OPENING = (
    "Some special magic numbers are hidden within the following text. Make sure to memorize them. "
    "I will quiz you about the numbers afterwards."
)


class Needle:
    """After RULER's NIAH (Hsieh and others, 2024): one number, or one of several by its name.

    Args:
        num_needles: numbers in the text, all of which are asked for, each by a question of its own.
    """

    is_exact = True

    def __init__(self, num_needles: int) -> None:
        self.name = "needle" if num_needles == 1 else f"needles-{num_needles}"
        self._num_needles = num_needles

    def sample(self, seed: int, num_tokens: int, encode: Encode, prose: Sequence[str]) -> Sample:
        """See `Task.sample`."""
        rng = random.Random(f"{self.name} {seed}")
        numbers = {name: digits(rng) for name in names(rng, self._num_needles)}
        hidden = [(rng.random(), number_text(name, n)) for name, n in numbers.items()]
        context = Haystack(_OPENING, prose, hidden).tokens(num_tokens, encode)
        return Sample(context, tuple(number_question(encode, *pair) for pair in numbers.items()))


class MultiValue:
    """After RULER's multi-value NIAH: a name has several numbers.

    In which order they are given is open, so all but one are given, and the missing one is asked
    for: each of them once.
    """

    is_exact = True

    def __init__(self, num_values: int) -> None:
        self.name = f"values-{num_values}"
        self._num_values = num_values

    def sample(self, seed: int, num_tokens: int, encode: Encode, prose: Sequence[str]) -> Sample:
        """See `Task.sample`."""
        rng = random.Random(f"{self.name} {seed}")
        (name,) = names(rng, 1)
        numbers = [digits(rng) for _ in range(self._num_values)]
        hidden = [(rng.random(), number_text(name, number)) for number in numbers]
        context = Haystack(_OPENING, prose, hidden).tokens(num_tokens, encode)
        questions = []
        for missing in numbers:
            given = [number for number in numbers if number != missing]
            questions.append(missing_question(encode, name, given, missing))
        return Sample(context, tuple(questions))


def number_text(name: str, number: str) -> str:
    """A sentence that tells a number."""
    return f" One of the special magic numbers for {name} is: {number}."


def number_question(encode: Encode, name: str, number: str) -> Question:
    """Asks for the only number of a name."""
    question = (
        f"\n\nWhat is the special magic number for {name} mentioned in the provided text? The "
        f"special magic number for {name} mentioned in the provided text is:"
    )
    return ask(encode, question, [f" {number}"])


def missing_question(encode: Encode, name: str, given: Sequence[str], missing: str) -> Question:
    """Asks for the last of several numbers of a name, in whatever order the others are."""
    question = (
        f"\n\nWhat are the special magic numbers for {name} mentioned in the provided text? The "
        f"special magic numbers for {name} are: {', '.join(given)},"
    )
    return ask(encode, question, [f" {missing}"])
