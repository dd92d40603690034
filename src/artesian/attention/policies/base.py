"""When attending sparsely does not pay."""

from collections.abc import Sequence
from typing import Protocol

from artesian.attention.base import SparseAttention


class DenseFallback(Protocol):
    """Policy of one sequence: no I/O, no clock, and nothing that other sequences do.

    So what a sequence computes does not depend on who else is there.
    """

    def choose(self, asked: SparseAttention, num_before: int) -> SparseAttention | None:
        """How the token behind `num_before` others attends, never to less than `asked` says; None:
        to everything."""

    def observe(self, kept: Sequence[float]) -> None:
        """The last token that attended sparsely has read so much of each layer's KV that it could
        see, 0 to 1; 1 where a layer was attended whole."""
