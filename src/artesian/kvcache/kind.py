"""Of what kind the KV of a sequence is: exact, or one of many approximations.

Exact KV follows from tokens alone, whoever computes it. Where sublayers are left out, all of it is
another. With sparse attention the prompt's is exact still, and what stands behind it is not: a
generated token has not seen everything. Only sequences of the same kind find such blocks.
"""

from dataclasses import dataclass

from artesian.kvcache.hashing import approximate_name


@dataclass(frozen=True, slots=True)
class KvKind:
    """Identities of what changes the numbers; empty texts change nothing.

    Attributes:
        skip: of the sublayers that no token of the sequence computes.
        attention: of how tokens attend from the first one on that does not attend to everything.
    """

    skip: str = ""
    attention: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether all KV is what any sequence would compute."""
        return not self.skip and not self.attention

    def dense_name(self, exact: bytes) -> bytes:
        """Name of a block up to whose end all tokens attended to everything."""
        return approximate_name(exact, skip=self.skip, attention="") if self.skip else exact

    def sparse_name(self, exact: bytes) -> bytes:
        """Name of a block that holds, or follows, a token that did not."""
        if self.is_exact:
            return exact
        return approximate_name(exact, skip=self.skip, attention=self.attention)


EXACT = KvKind()
