"""What a request may ask of attention over a long context."""

from typing import Literal

import msgspec

Selector = Literal["dense", "progressive", "top-k", "top-p", "window"]
"""How KV blocks are chosen: all; in order of importance until the rest cannot matter (PSA); a fixed
number of the most important (Quest); the fewest whose estimated weight is enough (Twilight); the
first and the latest (StreamingLLM)."""


class SparseAttention(msgspec.Struct, frozen=True, kw_only=True):
    """How the tokens that a request generates attend; its prompt attends to everything.

    Attributes:
        epsilon: part of the attention weight that is enough (progressive, top-p), in (0, 1].
        budget_tokens: most tokens that are attended to (progressive, top-p: 0 for no limit; top-k
            and window: how many).
        dense_layers: so many first layers attend to everything.
        min_context_tokens: with fewer tokens before it, a token attends to everything.
    """

    selector: Selector = "dense"
    epsilon: float = 0.95
    budget_tokens: int = 0
    dense_layers: int = 0
    min_context_tokens: int = 1024

    @property
    def is_exact(self) -> bool:
        """Whether nothing is left out, whatever the context."""
        return self.selector == "dense"

    @property
    def identity(self) -> str:
        """Names the choice where it changes numbers, as in the names of KV blocks; "" for none."""
        if self.is_exact:
            return ""
        epsilon = f"{self.epsilon:.9g}" if self.selector in ("progressive", "top-p") else "-"
        numbers = (self.budget_tokens, self.dense_layers, self.min_context_tokens)
        return " ".join([self.selector, epsilon, *map(str, numbers)])
