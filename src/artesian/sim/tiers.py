"""A host tier and a disk tier, each under a policy: what `ContextCache` does, without bytes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from artesian.context.policies import EvictionPolicy, LookAheadPrefetch, Rank
from artesian.sim.cost import CostModel
from artesian.sim.events import EventLoop, Link


@dataclass(frozen=True, slots=True)
class Found:
    """The first blocks of a prefix that are there: in host memory, and on disk alone."""

    num_host: int
    num_disk: int


class TierState:
    """The blocks of a tier and their sizes."""

    def __init__(self, policy: EvictionPolicy, capacity_bytes: float) -> None:
        self.policy = policy
        self.capacity_bytes = capacity_bytes
        self.used_bytes = 0
        self.num_evicted = 0
        self.sizes: dict[bytes, int] = {}

    def put(self, name: bytes, num_bytes: int, now: float) -> None:
        """The block is there, or has this size now."""
        self.used_bytes += num_bytes - self.sizes.get(name, 0)
        self.sizes[name] = num_bytes
        self.policy.add(name, num_bytes, now)

    def make_room(self, now: float) -> list[tuple[bytes, int]]:
        """Takes away what must go, and says what that was."""
        gone = []
        for name in self.policy.victims(self.used_bytes, self.capacity_bytes, (), now):
            num_bytes = self.sizes.pop(name)
            self.used_bytes -= num_bytes
            self.num_evicted += 1
            self.policy.forget(name)
            gone.append((name, num_bytes))
        return gone


class Tiers:
    """Write-back: what host memory has no room for goes to disk, if it is not there already; what
    the disk has no room for is gone. What is read from disk stays there.

    A write takes the disk's time and nothing waits for it; `write` says how busy that was.
    """

    def __init__(
        self,
        loop: EventLoop,
        cost: CostModel,
        host: TierState,
        disk: TierState,
        prefetch: LookAheadPrefetch | None = None,
    ) -> None:
        self.host = host
        self.disk = disk
        self.read = Link(loop, cost.read_bytes_per_s)
        self.write = Link(loop, cost.write_bytes_per_s)
        self._loop = loop
        self._prefetch = prefetch
        self._coming: dict[bytes, int] = {}
        self._coming_bytes = 0

    def enqueue(self, rank: Rank, names: Sequence[bytes]) -> None:
        """A request waits that would use these blocks."""
        for tier in (self.host, self.disk):
            tier.policy.enqueue(rank, names, self._loop.now)
        if self._prefetch is not None:
            self._prefetch.enqueue(rank, names)

    def dequeue(self, rank: Rank) -> None:
        """The request runs."""
        for tier in (self.host, self.disk):
            tier.policy.dequeue(rank, self._loop.now)
        if self._prefetch is not None:
            self._prefetch.dequeue(rank)

    def find(self, names: Sequence[bytes]) -> Found:
        """What there is of a prefix; what is still on its way counts as on disk."""
        num_host = num_disk = 0
        for name in names:
            if name in self.host.sizes:
                num_host += 1
            elif name in self.disk.sizes:
                num_disk += 1
            else:
                break
        return Found(num_host, num_disk)

    def use(self, names: Sequence[bytes]) -> None:
        """A request begins that has these blocks."""
        for tier in (self.host, self.disk):
            tier.policy.use(names, self._loop.now)

    def fetch(self, names: Sequence[bytes], then: Callable[[], None]) -> None:
        """Reads those of the blocks that are on disk alone; then they are in host memory.

        Blocks that are on their way are not read again, but waited for.
        """
        wanted = [n for n in names if n not in self.host.sizes and n in self.disk.sizes]
        mine = {name: self.disk.sizes[name] for name in wanted if name not in self._coming}
        self._coming |= mine
        num_bytes = sum(mine.values())
        self._coming_bytes += num_bytes
        end_s = self.read.move(num_bytes)

        def arrive() -> None:
            self._coming_bytes -= num_bytes
            for name, size in mine.items():
                del self._coming[name]
                if name not in self.host.sizes and name in self.disk.sizes:
                    self.host.put(name, size, self._loop.now)
            self.host.policy.use(names, self._loop.now)
            self._make_room()
            then()

        self._loop.at(end_s, arrive)

    def save(self, names: Sequence[bytes], num_bytes: int) -> None:
        """Takes what a request leaves: blocks of `num_bytes` each."""
        for name in names:
            if self.host.sizes.get(name) == num_bytes:
                continue
            if name in self.host.sizes or self.disk.sizes.get(name) != num_bytes:
                self.host.put(name, num_bytes, self._loop.now)
        self.use(names)
        self._make_room()

    def look_ahead(self) -> None:
        """Fetches what waiting requests need, as far as the policy wants that."""
        if self._prefetch is None or not self.disk.sizes:
            return
        block_bytes = self.disk.used_bytes / len(self.disk.sizes)
        for _, names in self._prefetch.choose(block_bytes, self._coming_bytes, self._missing):
            self.fetch(names, self.look_ahead)

    def _missing(self, names: Sequence[bytes]) -> Sequence[bytes]:
        found = self.find(names)
        there = names[: found.num_host + found.num_disk]
        return [n for n in there if n not in self.host.sizes and n not in self._coming]

    def _make_room(self) -> None:
        now = self._loop.now
        for name, num_bytes in self.host.make_room(now):
            old = self.disk.sizes.get(name, 0)
            if old != num_bytes:
                self.write.move(max(0, num_bytes - old))
                self.disk.put(name, num_bytes, now)
        self.disk.make_room(now)
