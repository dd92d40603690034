"""The waiting jobs, and how many of them are looked ahead at."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from artesian.context.policies.base import Rank


class JobWindow:
    """Waiting jobs by rank. The first so many are in the window; who enters and who leaves it is
    told one by one, so that nobody looks at the whole queue.
    """

    def __init__(self) -> None:
        self._ranks: list[Rank] = []
        self._names: dict[Rank, Sequence[bytes]] = {}
        self._num_names = 0
        self._num_inside = 0

    def __len__(self) -> int:
        return len(self._ranks)

    def __contains__(self, rank: Rank) -> bool:
        return rank in self._names

    @property
    def num_inside(self) -> int:
        """Jobs in the window."""
        return self._num_inside

    def at(self, position: int) -> Rank:
        """The job that has so many before it."""
        return self._ranks[position]

    @property
    def mean_num_blocks(self) -> float:
        """Blocks of a waiting job; 0 without jobs."""
        return self._num_names / len(self._ranks) if self._ranks else 0.0

    def names(self, rank: Rank) -> Sequence[bytes]:
        """The blocks of a job that waits."""
        return self._names[rank]

    def add(self, rank: Rank, names: Sequence[bytes]) -> bool:
        """A job waits now. Whether it is in the window."""
        position = bisect_left(self._ranks, rank)
        self._ranks.insert(position, rank)
        self._names[rank] = names
        self._num_names += len(names)
        is_inside = position < self._num_inside
        self._num_inside += is_inside
        return is_inside

    def remove(self, rank: Rank) -> bool:
        """A job that waited does not any more. Whether it was in the window."""
        position = bisect_left(self._ranks, rank)
        del self._ranks[position]
        self._num_names -= len(self._names.pop(rank))
        was_inside = position < self._num_inside
        self._num_inside -= was_inside
        return was_inside

    def resize(self, num_jobs: float) -> Iterator[tuple[Rank, bool]]:
        """Makes the window as long as that: each job that enters it (True) or leaves (False)."""
        while self._num_inside > num_jobs:
            self._num_inside -= 1
            yield self._ranks[self._num_inside], False
        while self._num_inside < min(num_jobs, len(self._ranks)):
            self._num_inside += 1
            yield self._ranks[self._num_inside - 1], True
