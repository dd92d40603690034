"""Blocks on their way up: from slower tiers into the quickest one, before anybody's turn."""

from collections.abc import Callable, Sequence

from artesian.context.base import Done
from artesian.context.policies import LookAheadPrefetch, Rank
from artesian.context.shelf import Shelf

_BUFFER_SHARE = 0.1
"""Of the quickest tier, for blocks on their way."""
_LOOK_S = 0.02
"""Between two looks at the queue: each asks tiers for names."""


class Promoter:
    """Copies what waiting jobs need into the quickest tier, as `LookAheadPrefetch` says."""

    def __init__(
        self,
        shelves: Sequence[Shelf],
        block_size_tokens: int,
        is_loading: Callable[[bytes], bool],
    ) -> None:
        """Makes one.

        Args:
            shelves: two at least, the quickest one first.
            is_loading: whether a block is on its way into the arena: then it need not come here.
        """
        self._top, *self._below = shelves
        self._block_size_tokens = block_size_tokens
        self._is_loading = is_loading
        capacity = self._top.tier.capacity_bytes
        self._policy = LookAheadPrefetch(capacity, _BUFFER_SHARE * capacity)
        self._open: dict[int, bytes] = {}  # by tickets of the quickest tier
        self._coming: set[bytes] = set()
        self._next_look_s = 0.0

    @property
    def num_open(self) -> int:
        """Blocks on their way."""
        return len(self._open)

    def enqueue(self, rank: Rank, names: Sequence[bytes]) -> None:
        """A job that would use these blocks waits for its turn."""
        self._policy.enqueue(rank, names)

    def dequeue(self, rank: Rank) -> None:
        """The job runs, or was given up."""
        self._policy.dequeue(rank)

    def look(self, now: float) -> None:
        """Begins to copy, if it is time to look at the queue."""
        if now < self._next_look_s:
            return
        self._next_look_s = now + _LOOK_S
        room_bytes = self._top.tier.room_bytes
        coming_bytes = len(self._open) * room_bytes
        for _, names in self._policy.choose(room_bytes, coming_bytes, self._missing):
            if not self._copy(names):
                break

    def end(self, done: Done) -> bool:
        """Takes notice of a copy that has ended; False if `done` of the quickest tier is none."""
        name = self._open.pop(done.ticket, None)
        if name is None:
            return False
        self._coming.remove(name)
        self._top.end_save(name, done)
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
        return [n for n in found if n not in self._coming and not self._is_loading(n)]

    def _copy(self, names: Sequence[bytes]) -> bool:
        """Whether all of the blocks are on their way."""
        self._top.make_room(len(names) + len(self._open), names)
        for name in names:
            source = next((s for s in self._below if s.tier.find([name])), None)
            ticket = None if source is None else self._top.tier.copy(name, source.tier)
            if ticket is None:
                return False
            self._open[ticket] = name
            self._coming.add(name)
        return True
