"""Whose blocks are brought from disk to host memory before their turn: CachedAttention's look-ahead
prefetching window."""

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence

from artesian.context.policies.base import Rank
from artesian.context.policies.job_window import JobWindow

_MOST_LOOKED_AT = 4
"""Jobs that one decision looks at."""


class LookAheadPrefetch:
    """The first `L_pw = C_mem / S_kv` waiting jobs have their blocks brought up.

    After CachedAttention (2403.19708, section 3.3.1): C_mem is what host memory has for fetched
    blocks, S_kv the mean of what a waiting job needs. What is on its way lies in a buffer that is
    set apart, so that a fetch never waits for an eviction; so no more is under way at once.

    Each job is looked at when it comes into the window, and now and then again, as what was brought
    up may have been thrown out.
    """

    def __init__(self, host_bytes: float, buffer_bytes: float) -> None:
        """Makes one without jobs.

        Args:
            host_bytes: host memory for blocks.
            buffer_bytes: the part of it that is set apart for what is on its way.

        Raises:
            ValueError: the buffer is not between 0 and the whole.
        """
        if not 0 < buffer_bytes < host_bytes:
            raise ValueError(
                f"the buffer has {buffer_bytes} bytes: not between 0 and host memory, {host_bytes}"
            )
        self._host_bytes = host_bytes - buffer_bytes
        self._buffer_bytes = buffer_bytes
        self._jobs = JobWindow()
        self._new: list[Rank] = []  # in the window and not looked at yet, in order
        self._next = 0  # of the window, to be looked at again

    def enqueue(self, rank: Rank, names: Sequence[bytes]) -> None:
        """A job that would use the blocks `names` waits for its turn."""
        self.dequeue(rank)
        if self._jobs.add(rank, names):
            insort(self._new, rank)

    def dequeue(self, rank: Rank) -> None:
        """The job runs, or was given up. Unknown ones are passed over."""
        if rank in self._jobs:
            self._jobs.remove(rank)
            self._not_new(rank)

    def window(self, block_bytes: float) -> int:
        """L_pw: how many jobs are looked ahead at, if a block has `block_bytes` on average."""
        job_bytes = self._jobs.mean_num_blocks * block_bytes
        return int(self._host_bytes // job_bytes) if job_bytes > 0 else len(self._jobs)

    def choose(
        self,
        block_bytes: float,
        coming_bytes: float,
        missing: Callable[[Sequence[bytes]], Sequence[bytes]],
    ) -> list[tuple[Rank, Sequence[bytes]]]:
        """Jobs whose blocks are to be fetched now, with those blocks, first job first.

        Args:
            block_bytes: mean size of a block.
            coming_bytes: blocks that are on their way already.
            missing: those of a prefix that are on disk, neither in host memory nor on their way.
        """
        for rank, enters in self._jobs.resize(self.window(block_bytes)):
            if enters:
                insort(self._new, rank)
            else:
                self._not_new(rank)
        fetches = []
        for rank in self._to_look_at():
            if coming_bytes >= self._buffer_bytes:
                break
            self._not_new(rank)
            if names := missing(self._jobs.names(rank)):
                fetches.append((rank, names))
                coming_bytes += len(names) * block_bytes
        return fetches

    def _to_look_at(self) -> list[Rank]:
        """Some that are new, then one of the others."""
        ranks = self._new[:_MOST_LOOKED_AT]
        if len(ranks) < _MOST_LOOKED_AT and self._jobs.num_inside:
            self._next = (self._next + 1) % self._jobs.num_inside
            again = self._jobs.at(self._next)
            if again not in ranks:
                ranks.append(again)
        return ranks

    def _not_new(self, rank: Rank) -> None:
        position = bisect_left(self._new, rank)
        if self._new[position : position + 1] == [rank]:
            del self._new[position]
