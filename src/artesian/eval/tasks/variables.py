"""Variable tracking: a chain of assignments through the text."""

import random
import string
from collections.abc import Sequence

from artesian.eval.tasks.base import Encode, Haystack, Sample, ask, digits

_OPENING = "Memorize and track the chain(s) of variable assignment hidden in the following text."


class Variables:
    """After RULER's variable tracking: which variables have the value at the chain's beginning.

    An answer is one variable, behind the right ones before it.
    """

    is_exact = True

    def __init__(self, num_hops: int) -> None:
        self.name = f"variables-{num_hops}"
        self._num_hops = num_hops

    def sample(self, seed: int, num_tokens: int, encode: Encode, prose: Sequence[str]) -> Sample:
        """See `Task.sample`."""
        rng = random.Random(f"{self.name} {seed}")
        count = self._num_hops + 1
        variables: list[str] = []
        while len(variables) < count:
            name = "".join(rng.choices(string.ascii_uppercase, k=5))
            variables += [name] * (name not in variables)
        value = digits(rng)
        values = [value, *(f"VAR {name}" for name in variables[:-1])]
        depths = sorted(rng.random() for _ in range(count))
        lines = [f" VAR {n} = {v}." for n, v in zip(variables, values, strict=True)]
        haystack = Haystack(_OPENING, prose, list(zip(depths, lines, strict=True)))
        question = (
            f"\n\nQuestion: Find all variables that are assigned the value {value} in the text "
            "above. Answer: According to the chain(s) of variable assignment in the text above, "
            f"{count} variables are assigned the value {value}, they are:"
        )
        asked = ask(encode, question, [f" {name}" for name in variables], between=",")
        return Sample(haystack.tokens(num_tokens, encode), (asked,))
