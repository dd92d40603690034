"""Passkey: a number in filler that says nothing."""

import random
from collections.abc import Sequence

from artesian.eval.tasks.base import Encode, Haystack, Sample, ask, digits

_OPENING = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
    "I will quiz you about the important information there."
)
_FILLER = (
    " The grass is green.",
    " The sky is blue.",
    " The sun is yellow.",
    " Here we go.",
    " There and back again.",
)


class Passkey:
    """After Mohtashami and Jaggi, "Landmark attention", 2023."""

    name = "passkey"
    is_exact = True

    def sample(self, seed: int, num_tokens: int, encode: Encode, prose: Sequence[str]) -> Sample:
        """See `Task.sample`."""
        rng = random.Random(f"passkey {seed}")
        key = digits(rng)
        hidden = f" The pass key is {key}. Remember it. {key} is the pass key."
        haystack = Haystack(_OPENING, _FILLER, [(rng.random(), hidden)])
        question = ask(encode, " What is the pass key? The pass key is", [f" {key}"])
        return Sample(haystack.tokens(num_tokens, encode), (question,))
