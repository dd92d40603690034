"""Jobs that read files through a cache, on a virtual clock."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from artesian.files.base import BLOCK_BYTES, Access, Block, Prefetch
from artesian.sim.events import EventLoop
from artesian.sim.files.cache import FileCache
from artesian.sim.files.loads import FileRead, Job
from artesian.sim.files.origin import Origin

_RUN_BLOCKS = 4
_LONGEST_S = 1e7


@dataclass(slots=True)
class JobOutcome:
    """What became of a job.

    Attributes:
        num_blocks: that were wanted; num_hits: of these, those that were there; num_late: those
            that were on their way; waits_s: of each read.
        took_s: from its beginning to its last byte.
    """

    num_blocks: int = 0
    num_hits: int = 0
    num_late: int = 0
    num_bytes: int = 0
    hit_bytes: int = 0
    took_s: float = 0.0
    waits_s: list[float] = field(default_factory=list)


@dataclass(slots=True)
class FilesOutcome:
    """What became of all jobs.

    Attributes:
        origin_bytes, origin_requests: what the origin gave.
        num_ahead: blocks that were fetched ahead; num_ahead_used: of these, those wanted then.
        order: blocks and their bytes as they were wanted.
    """

    jobs: dict[str, JobOutcome] = field(default_factory=dict)
    origin_bytes: int = 0
    origin_requests: int = 0
    num_ahead: int = 0
    num_ahead_used: int = 0
    order: list[tuple[Block, int]] = field(default_factory=list)

    @property
    def hit_ratio(self) -> float:
        """Of blocks, whatever their size; one on its way is no hit."""
        wanted = sum(job.num_blocks for job in self.jobs.values())
        return sum(job.num_hits for job in self.jobs.values()) / max(1, wanted)

    @property
    def byte_hit_ratio(self) -> float:
        """Of the bytes of the blocks that were wanted."""
        wanted = sum(job.num_bytes for job in self.jobs.values())
        return sum(job.hit_bytes for job in self.jobs.values()) / max(1, wanted)

    @property
    def mean_took_s(self) -> float:
        """Mean of the jobs' times."""
        return sum(job.took_s for job in self.jobs.values()) / max(1, len(self.jobs))


class Simulation:
    """Runs jobs to their end."""

    def __init__(
        self,
        jobs: Sequence[Job],
        cache: FileCache,
        *,
        latency_s: float = 0.03,
        bytes_per_s: float = 100e6,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._jobs = jobs
        self._cache = cache
        self._block_bytes = block_bytes
        self._loop = EventLoop()
        self._origin = Origin(self._loop, latency_s, bytes_per_s)
        self._sizes = {path: size for job in jobs for path, size in job.sizes().items()}
        self._waiting: dict[Block, list[_Reader]] = {}  # of all blocks on their way
        self._unused: set[Block] = set()
        self.outcome = FilesOutcome()

    def run(self) -> FilesOutcome:
        """Runs all."""
        for job in self._jobs:
            for folder, names in job.listings.items():
                self._cache.listed(folder, names)
            outcome = self.outcome.jobs.setdefault(job.name, JobOutcome())
            for reads in job.readers:
                reader = _Reader(self, job, reads, outcome)
                self._loop.at(job.begin_s, reader.next)
        self._loop.run(_LONGEST_S)
        self.outcome.origin_bytes = self._origin.num_bytes
        self.outcome.origin_requests = self._origin.num_requests
        return self.outcome

    def read(self, reader: "_Reader", read: FileRead) -> None:
        """A reader wants bytes; it goes on when it has them."""
        now_s = self._loop.now
        blocks = self._blocks(read)
        access = Access(read.path, read.offset, read.length, read.stream, now_s, read.file_bytes)
        missing = []
        outcome = reader.outcome
        hits = self._cache.access(access, blocks)
        for (block, size), is_hit in zip(blocks, hits, strict=True):
            self.outcome.order.append((block, size))
            if block in self._unused:
                self._unused.discard(block)
                self.outcome.num_ahead_used += 1
            outcome.num_blocks += 1
            outcome.num_bytes += size
            waiting = self._waiting.get(block)
            if waiting is not None:
                outcome.num_late += 1
                waiting.append(reader)
                reader.num_missing += 1
            elif is_hit:
                outcome.num_hits += 1
                outcome.hit_bytes += size
            else:
                missing.append((block, size))
                reader.num_missing += 1
        for run in _runs(missing):
            for block, _ in run:
                self._waiting[block] = [reader]
            self._origin.fetch(run, partial(self._arrived, is_prefetch=False))
        for prefetch in self._cache.ahead():
            self._fetch_ahead(prefetch)
        if not reader.num_missing:
            reader.done()

    def _blocks(self, read: FileRead) -> list[tuple[Block, int]]:
        size, block = read.file_bytes, self._block_bytes
        end = min(read.offset + read.length, size)
        numbers = range(read.offset // block, max(0, end - 1) // block + 1)
        return [(Block(read.path, n), min(block, size - n * block)) for n in numbers]

    def _fetch_ahead(self, prefetch: Prefetch) -> None:
        size = self._sizes.get(prefetch.path)
        if size is None:
            return
        wanted = []
        last = -(-size // self._block_bytes)
        for number in range(prefetch.first, min(prefetch.end, last)):
            block = Block(prefetch.path, number)
            room = min(self._block_bytes, size - number * self._block_bytes)
            if block in self._waiting or self._cache.holds(block):
                continue
            if self._cache.wants(block, room, self._loop.now):
                wanted.append((block, room))
        for run in _runs(wanted):
            arrival = partial(self._arrived, is_prefetch=True)
            if self._origin.fetch_ahead(run, arrival, is_background=prefetch.is_background):
                self.outcome.num_ahead += len(run)
                for block, _ in run:
                    self._waiting[block] = []
                    self._unused.add(block)

    def _arrived(
        self, blocks: Sequence[tuple[Block, int]], took_s: float, *, is_prefetch: bool
    ) -> None:
        self._cache.fetched(blocks[0][0].path, sum(size for _, size in blocks), took_s)
        waiting = []
        for block, size in blocks:
            readers = self._waiting.pop(block)
            waiting += readers
            # Somebody waits for it: then it is no longer ahead of anybody.
            self._cache.arrived(
                block, size, self._loop.now, is_prefetch=is_prefetch and not readers
            )
        for reader in waiting:
            reader.num_missing -= 1
            if not reader.num_missing:
                reader.done()

    def after(self, think_s: float, reader: "_Reader", read: FileRead) -> None:
        """The reader reads, a little later."""
        self._loop.after(think_s, lambda: reader.begin(read))

    @property
    def now_s(self) -> float:
        """Of the virtual clock."""
        return self._loop.now


class _Reader:
    """One after another of a reader's reads."""

    def __init__(
        self, simulation: Simulation, job: Job, reads: Sequence[FileRead], outcome: JobOutcome
    ) -> None:
        self.outcome = outcome
        self.num_missing = 0
        self._simulation = simulation
        self._job = job
        self._reads = iter(reads)
        self._asked_s = 0.0

    def next(self) -> None:
        """The next read, after some thought."""
        read = next(self._reads, None)
        if read is not None:
            self._simulation.after(read.think_s, self, read)

    def begin(self, read: FileRead) -> None:
        """Asks."""
        self._asked_s = self._simulation.now_s
        self._simulation.read(self, read)

    def done(self) -> None:
        """Has what it asked for."""
        now_s = self._simulation.now_s
        self.outcome.waits_s.append(now_s - self._asked_s)
        self.outcome.took_s = max(self.outcome.took_s, now_s - self._job.begin_s)
        self.next()


def _runs(blocks: Sequence[tuple[Block, int]]) -> list[list[tuple[Block, int]]]:
    """Blocks in requests of adjacent ones."""
    runs: list[list[tuple[Block, int]]] = []
    for block, size in blocks:
        last = runs[-1][-1][0] if runs else None
        if last == (block.path, block.number - 1) and len(runs[-1]) < _RUN_BLOCKS:
            runs[-1].append((block, size))
        else:
            runs.append([(block, size)])
    return runs
