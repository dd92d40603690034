"""Which blocks of a tier go first: what all eviction policies have in common.

A policy belongs to one tier and knows the blocks there by their names. It does no I/O and has no
clock: it is told what happens, and when, and is asked what should go.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence, Set

HIGH_WATER = 0.95
"""Part of a tier that may be in use before anything goes."""
LOW_WATER = 0.90
"""What goes then makes room down to this part, so that it need not go on all the time."""

MOST_AT_ONCE = 512
"""Blocks that one decision names: it is made between two steps. The next one goes on."""

Rank = tuple[int, ...]
"""Names a waiting job and says when its turn comes: lower ones run first."""


class EvictionPolicy(ABC):
    """The blocks of one tier, and the order in which they would go.

    Blocks are chained: one is of no use without those before it. So names come as prefixes, first
    block first, and whoever adds several blocks of a prefix calls `use` with it afterwards.
    Times are seconds of any clock that does not go back. What is chosen stays known until the tier
    has taken it away and `forget` says so.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __contains__(self, name: object) -> bool: ...

    @abstractmethod
    def add(self, name: bytes, num_bytes: int, now: float = 0.0, tenant: str = "") -> None:
        """A block is there; if it was known already, it may have another size now.

        Args:
            tenant: whose block it is; names of different tenants differ.
        """

    @abstractmethod
    def forget(self, name: bytes) -> None:
        """The block is not there any more. Unknown ones are passed over."""

    @abstractmethod
    def use(self, names: Sequence[bytes], now: float = 0.0) -> None:
        """The blocks of a prefix were wanted; unknown ones are passed over."""

    @abstractmethod
    def choose(self, num_bytes: float, spared: Set[bytes], now: float) -> list[bytes]:
        """Blocks to take away, first one first, of `num_bytes` together or a little more.

        Fewer only if nothing else may go, or when they are `MOST_AT_ONCE` already.
        """

    def enqueue(  # noqa: B027 - few policies look at the queue
        self, rank: Rank, names: Sequence[bytes], now: float = 0.0, tenant: str = ""
    ) -> None:
        """A job that would use the blocks `names`, in the tier or not, waits for its turn."""

    def dequeue(self, rank: Rank, now: float = 0.0) -> None:  # noqa: B027 - as above
        """The job runs, or was given up. Unknown ones are passed over."""

    def expired(self, spared: Set[bytes], now: float) -> list[bytes]:
        """Blocks that go for their age, wherever there is room; as many at once as `victims`."""
        return []

    def victims(
        self,
        used_bytes: float,
        capacity_bytes: float,
        spared: Iterable[bytes] = (),
        now: float = 0.0,
    ) -> list[bytes]:
        """Blocks to take away: none below the high water mark, else down to the low one.

        Args:
            spared: blocks that must not go now.
        """
        if used_bytes <= HIGH_WATER * capacity_bytes:
            return []
        return self.choose(used_bytes - LOW_WATER * capacity_bytes, frozenset(spared), now)


def first_ones(
    order: Iterable[tuple[bytes, int]], num_bytes: float, spared: Set[bytes]
) -> list[bytes]:
    """Names of `order`, which gives sizes as well, until they have `num_bytes` together."""
    chosen: list[bytes] = []
    for name, size in order:
        if num_bytes <= 0 or len(chosen) == MOST_AT_ONCE:
            break
        if name not in spared:
            chosen.append(name)
            num_bytes -= size
    return chosen
