"""What no waiting job needs goes first: the look-ahead eviction window of CachedAttention."""

import math
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator, Sequence, Set
from itertools import chain

from artesian.context.policies.base import EvictionPolicy, Rank, first_ones
from artesian.context.policies.job_window import JobWindow


class _Job:
    """A job of the window.

    Attributes:
        num_held: blocks here of which it is the first job; the last of them is before `end`.
    """

    __slots__ = ("end", "names", "num_held", "rank")

    def __init__(self, rank: Rank, names: Sequence[bytes]) -> None:
        self.rank = rank
        self.names = names
        self.num_held = 0
        self.end = 0


class QueueAware(EvictionPolicy):
    """Blocks without a waiting job first, leaf first and least recently used; then those of the job
    whose turn comes last, leaf first, and so on towards the head of the queue.

    After CachedAttention (2403.19708, section 3.3.2), where the window is `(C_mem + C_disk) / S_kv`
    jobs long, S_kv being the mean over the jobs that wait, and what is behind it counts as not
    waited for. Three changes are ours. What is evicted is blocks rather than sessions. A block
    belongs to the first of the jobs that need it, as prefixes are shared. And the window is the
    whole queue unless a length is given: behind a window least recently used goes first, and in a
    queue that is what comes into the window next.

    A decision takes time in proportion to what it evicts and spares; a job that comes or goes, in
    proportion to its blocks.
    """

    def __init__(self, window_bytes: float = math.inf) -> None:
        """Makes one for an empty tier.

        Args:
            window_bytes: of the blocks of the jobs in the window; the paper's is the capacity of
            all tiers together (C_mem + C_disk).
        """
        self._window_bytes = window_bytes
        self._bytes: dict[bytes, int] = {}
        self._used_bytes = 0
        self._idle: OrderedDict[bytes, None] = OrderedDict()  # next to go first
        self._jobs = JobWindow()
        self._inside: dict[Rank, _Job] = {}
        self._first: dict[bytes, _Job] = {}  # the job in the window that needs a block first
        self._others: dict[bytes, list[_Job]] = {}  # and those after it, if any
        self._holders: list[Rank] = []  # jobs that are the first ones for blocks here, in order

    def __len__(self) -> int:
        return len(self._bytes)

    def __contains__(self, name: object) -> bool:
        return name in self._bytes

    def add(self, name: bytes, num_bytes: int, now: float = 0.0, tenant: str = "") -> None:
        """See `EvictionPolicy`; new ones are the most recent."""
        old = self._bytes.get(name)
        self._bytes[name] = num_bytes
        self._used_bytes += num_bytes - (old or 0)
        if old is None:
            self._place(name)

    def forget(self, name: bytes) -> None:
        """See `EvictionPolicy`."""
        size = self._bytes.pop(name, None)
        if size is None:
            return
        self._used_bytes -= size
        self._displace(name)

    def use(self, names: Sequence[bytes], now: float = 0.0) -> None:
        """See `EvictionPolicy`."""
        for name in reversed(names):
            if name in self._idle:
                self._idle.move_to_end(name)

    def enqueue(
        self, rank: Rank, names: Sequence[bytes], now: float = 0.0, tenant: str = ""
    ) -> None:
        """See `EvictionPolicy`."""
        self.dequeue(rank, now)
        if self._jobs.add(rank, names):
            self._enter(rank, names)
        self._resize()

    def dequeue(self, rank: Rank, now: float = 0.0) -> None:
        """See `EvictionPolicy`. Blocks that no other job needs count as used now."""
        if rank not in self._jobs:
            return
        names = self._jobs.names(rank)
        if self._jobs.remove(rank):
            self._leave(rank, names)
        self._resize()

    def choose(self, num_bytes: float, spared: Set[bytes], now: float) -> list[bytes]:
        """See `EvictionPolicy`."""
        order = ((name, self._bytes[name]) for name in chain(self._idle, self._tail_first()))
        return first_ones(order, num_bytes, spared)

    def _tail_first(self) -> Iterator[bytes]:
        """Blocks that jobs wait for, last ones of the last job first."""
        for rank in reversed(self._holders):
            job = self._inside[rank]
            while not self._holds(job, job.names[job.end - 1]):
                job.end -= 1
            for name in reversed(job.names[: job.end]):
                if self._holds(job, name):
                    yield name

    def _holds(self, job: _Job, name: bytes) -> bool:
        return self._first.get(name) is job and name in self._bytes

    def _resize(self) -> None:
        """Fits the window to what a job needs now."""
        num_jobs = float(len(self._jobs))
        if self._bytes and num_jobs and math.isfinite(self._window_bytes):
            job_bytes = self._jobs.mean_num_blocks * self._used_bytes / len(self._bytes)
            if job_bytes > 0:
                num_jobs = max(1, self._window_bytes // job_bytes)
        for rank, enters in self._jobs.resize(num_jobs):
            if enters:
                self._enter(rank, self._jobs.names(rank))
            else:
                self._leave(rank, self._jobs.names(rank))

    def _enter(self, rank: Rank, names: Sequence[bytes]) -> None:
        job = self._inside[rank] = _Job(rank, names)
        for name in names:
            first = self._first.get(name)
            is_here = name in self._bytes
            if first is not None and first.rank < rank:
                insort(self._others.setdefault(name, []), job, key=_rank)
                continue
            if is_here:
                self._displace(name)
            self._first[name] = job
            if first is not None:
                self._others.setdefault(name, []).insert(0, first)
            if is_here:
                self._place(name)

    def _leave(self, rank: Rank, names: Sequence[bytes]) -> None:
        job = self._inside[rank]
        for name in reversed(names):
            others = self._others.get(name)
            if self._first[name] is not job:
                self._others[name].remove(job)
            else:
                is_here = name in self._bytes
                if is_here:
                    self._displace(name)
                if others:
                    self._first[name] = others.pop(0)
                else:
                    del self._first[name]
                if is_here:
                    self._place(name)
            if not others:
                self._others.pop(name, None)
        del self._inside[rank]

    def _place(self, name: bytes) -> None:
        """A block here is held by its first job, or idle and used most recently."""
        job = self._first.get(name)
        if job is None:
            self._idle[name] = None
            return
        if job.num_held == 0:
            insort(self._holders, job.rank)
        job.num_held += 1
        job.end = len(job.names)

    def _displace(self, name: bytes) -> None:
        """Undoes `_place`."""
        job = self._first.get(name)
        if job is None:
            del self._idle[name]
            return
        job.num_held -= 1
        if job.num_held == 0:
            del self._holders[bisect_left(self._holders, job.rank)]


def _rank(job: _Job) -> Rank:
    return job.rank
