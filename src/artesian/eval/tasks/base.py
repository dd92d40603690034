"""Questions about a long context whose answers are known, because they were put there."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Encode = Callable[[str], list[int]]
"""Text to token ids, without what begins or ends a text."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is read behind the context.

    Attributes:
        tokens: the question and, right behind it, its answer.
        answers: (first, end) of each answer in `tokens`, which is right when each of its tokens is
            the likeliest one behind those before it: when greedy decoding would give it.
    """

    tokens: tuple[int, ...]
    answers: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """A context and what is asked about it."""

    context: tuple[int, ...]
    questions: tuple[Question, ...]


class Task(Protocol):
    """Makes samples.

    Attributes:
        name: how it is asked for.
        is_exact: whether answers are right or wrong; else only their likelihood says something.
    """

    name: str
    is_exact: bool

    def sample(self, seed: int, num_tokens: int, encode: Encode, prose: Sequence[str]) -> Sample:
        """The sample of that seed, always the same.

        Args:
            seed: of everything that is made up.
            num_tokens: most tokens of the context, without what begins a text.
            encode: the model's tokenizer.
            prose: sentences to hide things in, used again from the first when they run out.

        Raises:
            ValueError: what is to be hidden alone is longer.
        """


@dataclass(slots=True)
class Haystack:
    """Sentences with others hidden between them.

    Attributes:
        opening: what the text begins with.
        hidden: (depth, text): at what part of the filler, in [0, 1], a text is put in.
    """

    opening: str
    filler: Sequence[str]
    hidden: list[tuple[float, str]] = field(default_factory=list)

    def tokens(self, num_tokens: int, encode: Encode) -> tuple[int, ...]:
        """As many sentences of the filler as there is room for. See `Task.sample` for errors."""
        opening = encode(self.opening)
        hidden = [(depth, encode(text)) for depth, text in sorted(self.hidden)]
        room = num_tokens - len(opening) - sum(len(tokens) for _, tokens in hidden)
        if room < 0:
            raise ValueError(f"a context of {num_tokens} tokens is too short for what is hidden")
        pieces: list[list[int]] = []
        size = 0
        memory: dict[str, list[int]] = {}
        while True:
            text = self.filler[len(pieces) % len(self.filler)]
            piece = memory.get(text) or memory.setdefault(text, encode(text))
            if size + len(piece) > room or not piece:
                break
            pieces.append(piece)
            size += len(piece)
        places = [round(depth * len(pieces)) for depth, _ in hidden]
        result = opening
        for number, piece in enumerate([*pieces, []]):
            for place, (_, tokens) in zip(places, hidden, strict=True):
                if place == number:
                    result = result + tokens
            result = result + piece
        return tuple(result)


def ask(encode: Encode, question: str, answers: Sequence[str], between: str = "") -> Question:
    """A question with its answers, `between` before each but the first."""
    tokens = encode(question)
    spans = []
    for number, answer in enumerate(answers):
        if number and between:
            tokens = tokens + encode(between)
        first = len(tokens)
        tokens = tokens + encode(answer)
        spans.append((first, len(tokens)))
    return Question(tuple(tokens), tuple(spans))


def digits(rng: random.Random, count: int = 5) -> str:
    """A number of so many digits."""
    return str(rng.randrange(10 ** (count - 1), 10**count))
