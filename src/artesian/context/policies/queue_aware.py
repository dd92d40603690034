"""What no waiting job needs goes first: the look-ahead eviction window of CachedAttention."""

import math
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Container, Iterator, Sequence
from itertools import chain

from artesian.context.policies.base import EvictionPolicy, Rank, first_ones
from artesian.context.policies.job_window import JobWindow

_Claim = tuple[Rank, int]
"""A job of the window and where in its prefix a block is."""


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
        self._claims: dict[bytes, list[_Claim]] = {}  # of jobs in the window, first job first
        self._num_held: dict[Rank, int] = {}  # blocks here of which the job is the first
        self._holders: list[Rank] = []  # jobs with such blocks, in order
        self._ends: dict[Rank, int] = {}  # their last such block is before that

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
            if name in self._claims:
                self._hold(self._claims[name][0])
            else:
                self._idle[name] = None

    def forget(self, name: bytes) -> None:
        """See `EvictionPolicy`."""
        size = self._bytes.pop(name, None)
        if size is None:
            return
        self._used_bytes -= size
        if name in self._claims:
            self._let_go(self._claims[name][0])
        else:
            del self._idle[name]

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

    def choose(self, num_bytes: float, spared: Container[bytes], now: float) -> list[bytes]:
        """See `EvictionPolicy`."""
        order = ((name, self._bytes[name]) for name in chain(self._idle, self._tail_first()))
        return first_ones(order, num_bytes, spared)

    def _tail_first(self) -> Iterator[bytes]:
        """Blocks that jobs wait for, last ones of the last job first."""
        for rank in reversed(self._holders):
            names = self._jobs.names(rank)
            end = self._ends[rank]
            while not self._holds(rank, names, end - 1):
                end -= 1
            self._ends[rank] = end
            for index in range(end - 1, -1, -1):
                if self._holds(rank, names, index):
                    yield names[index]

    def _holds(self, rank: Rank, names: Sequence[bytes], index: int) -> bool:
        name = names[index]
        return name in self._bytes and self._claims[name][0] == (rank, index)

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
        for index, name in enumerate(names):
            claim = (rank, index)
            claims = self._claims.get(name)
            if claims is None:
                self._claims[name] = [claim]
                if name in self._bytes:
                    del self._idle[name]
                    self._hold(claim)
                continue
            first = claims[0]
            insort(claims, claim)
            if claims[0] != first and name in self._bytes:
                self._let_go(first)
                self._hold(claim)

    def _leave(self, rank: Rank, names: Sequence[bytes]) -> None:
        for index in range(len(names) - 1, -1, -1):
            name = names[index]
            claims = self._claims[name]
            first = claims[0]
            claims.remove((rank, index))
            if name in self._bytes and first == (rank, index):
                self._let_go(first)
                if claims:
                    self._hold(claims[0])
                else:
                    self._idle[name] = None
            if not claims:
                del self._claims[name]

    def _hold(self, claim: _Claim) -> None:
        rank, index = claim
        num_held = self._num_held.get(rank, 0)
        if num_held == 0:
            insort(self._holders, rank)
        self._num_held[rank] = num_held + 1
        self._ends[rank] = max(self._ends.get(rank, 0), index + 1)

    def _let_go(self, claim: _Claim) -> None:
        rank = claim[0]
        self._num_held[rank] -= 1
        if self._num_held[rank] == 0:
            del self._holders[bisect_left(self._holders, rank)], self._num_held[rank]
            del self._ends[rank]
