"""Key-value retrieval: a long list of random pairs."""

import random
from collections.abc import Sequence

from artesian.eval.tasks.base import Encode, Sample, ask

_OPENING = "Below is a list of keys and values.\n"
_QUESTION = '\nWhat is the value of the key "{}"?\n"{}": "'


class KeyValue:
    """After Liu and others, "Lost in the middle", 2023, with shorter keys.

    Small models never give a whole value, so what counts is the likelihood of the right one.

    Args:
        num_questions: pairs of one list that are asked for.
    """

    name = "key-value"
    is_exact = False

    def __init__(self, num_questions: int = 4) -> None:
        self._num_questions = num_questions

    def sample(self, seed: int, num_tokens: int, encode: Encode, prose: Sequence[str]) -> Sample:
        """See `Task.sample`."""
        rng = random.Random(f"{self.name} {seed}")
        context = encode(_OPENING)
        pairs: list[tuple[str, str]] = []
        while True:
            key, value = (f"{rng.getrandbits(32):08x}" for _ in range(2))
            line = encode(f'"{key}": "{value}"\n')
            if len(context) + len(line) > num_tokens:
                break
            context = context + line
            pairs.append((key, value))
        if len(pairs) < self._num_questions:
            raise ValueError(f"a context of {num_tokens} tokens is too short for pairs")
        asked = rng.sample(pairs, self._num_questions)
        questions = [ask(encode, _QUESTION.format(key, key), [value]) for key, value in asked]
        return Sample(tuple(context), tuple(questions))
