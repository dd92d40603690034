"""Blocks on their way up: from slower tiers into the quickest one, before anybody's turn."""

from collections.abc import Callable, Sequence, Set

from artesian.context.base import Done
from artesian.context.policies import LookAheadPrefetch, Rank
from artesian.context.shelf import Shelf

_BUFFER_SHARE = 0.1
"""Of the quickest tier, for blocks on their way."""
_LOOK_S = 0.02
"""Between two looks at the queue: each asks tiers for names."""


class Promoter:
    """Copies what waiting jobs need into the quickest tier, as `LookAheadPrefetch` says.

    A job has waited for a look at least before it counts: the first ones of the queue load into the
    arena at once.
    """

    def __init__(
        self,
        shelves: Sequence[Shelf],
        block_size_tokens: int,
    ) -> None:
        """`shelves`: two at least, the quickest one first."""
        self._top, *self._below = shelves
        self._block_size_tokens = block_size_tokens
        capacity = self._top.tier.capacity_bytes
        self._policy = LookAheadPrefetch(capacity, _BUFFER_SHARE * capacity)
        self._fresh: dict[Rank, Sequence[bytes]] = {}
        self._tenants: dict[Rank, str] = {}
        self._open: dict[int, tuple[bytes, str]] = {}  # by tickets of the quickest tier
        self._coming: set[bytes] = set()
        self._next_look_s = 0.0

    @property
    def num_open(self) -> int:
        """Blocks on their way."""
        return len(self._open)

    @property
    def names(self) -> Set[bytes]:
        """These blocks."""
        return self._coming

    def enqueue(self, rank: Rank, names: Sequence[bytes], tenant: str = "") -> None:
        """A job that would use these blocks waits for its turn."""
        self._fresh[rank] = names
        self._tenants[rank] = tenant

    def dequeue(self, rank: Rank) -> None:
        """The job runs, or was given up."""
        self._policy.dequeue(rank)
        self._fresh.pop(rank, None)
        self._tenants.pop(rank, None)

    def look(self, now: float, is_unwanted: Callable[[Sequence[bytes]], bool]) -> None:
        """Begins to copy, if it is time to look at the queue.

        Args:
            is_unwanted: whether any of these blocks is being deleted, or on its way into the arena
            or there already.
        """
        if now < self._next_look_s:
            return
        self._next_look_s = now + _LOOK_S
        room_bytes = self._top.tier.room_bytes
        coming_bytes = len(self._open) * room_bytes

        def missing(names: Sequence[bytes]) -> Sequence[bytes]:
            found = self._missing(names)
            return [] if not found or is_unwanted(found) else found

        for rank, names in self._policy.choose(room_bytes, coming_bytes, missing):
            if not self._copy(names, self._tenants[rank]):
                break
        for rank, names in self._fresh.items():
            self._policy.enqueue(rank, names)
        self._fresh.clear()

    def end(self, done: Done) -> bool:
        """Takes notice of a copy that has ended; False if `done` of the quickest tier is none."""
        if done.ticket not in self._open:
            return False
        name, tenant = self._open.pop(done.ticket)
        self._coming.remove(name)
        self._top.end_save(name, done, tenant)
        return True

    def _missing(self, names: Sequence[bytes]) -> Sequence[bytes]:
        """The blocks behind those of the quickest tier that others have, if loading them from
        there beats computing."""
        first = self._top.tier.find(names)
        found: list[bytes] = []
        for shelf in self._below:
            behind = names[first + len(found) :]
            count = shelf.tier.find(behind) if behind else 0
            tokens = (first + len(found)) * self._block_size_tokens
            if count and shelf.gate.should_load(count, self._block_size_tokens, tokens):
                found += behind[:count]
        return [name for name in found if name not in self._coming]

    def _copy(self, names: Sequence[bytes], tenant: str) -> bool:
        """Whether all of the blocks are on their way."""
        self._top.make_room(len(names) + len(self._open), names)
        for name in names:
            source = next((s for s in self._below if s.tier.find([name])), None)
            ticket = None if source is None else self._top.tier.copy(name, source.tier)
            if ticket is None:
                return False
            self._open[ticket] = (name, tenant)
            self._coming.add(name)
        return True
