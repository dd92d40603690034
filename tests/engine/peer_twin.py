"""Engines in one process and the front between them: the slow obvious hand-over."""

import random
from dataclasses import dataclass, field

from artesian.engine.engine import LLMEngine
from artesian.engine.handover import LandingError, LandingTicket, PrefillDone, PrefillJob, Unwanted
from artesian.engine.landings import DecodeLoad, Offload
from artesian.engine.offload import OffloadError, RemoteName, RemoteStats
from artesian.engine.peers import PeerMemory
from artesian.kvcache import Arena
from tests.engine.toy import Clock, make_engine

ROUND_S = 0.1


@dataclass
class Slot:
    """A landing's control words."""

    generation: int = 0
    is_used: bool = False
    is_revoked: bool = False
    is_writing: bool = False
    is_complete: bool = False


@dataclass
class Pad:
    """A `LandingPad` that says what is wrong."""

    name: str
    arena: Arena
    slots: list[Slot] = field(default_factory=lambda: [Slot() for _ in range(3)])

    def open(self) -> tuple[int, int] | None:
        for number, slot in enumerate(self.slots):
            if not slot.is_used:
                self.slots[number] = Slot(slot.generation + 1, is_used=True)
                return number, slot.generation + 1
        return None

    def revoke(self, slot: int) -> bool:
        self.slots[slot].is_revoked = True
        return not self.slots[slot].is_writing

    def is_quiet(self, slot: int) -> bool:
        return self.slots[slot].is_revoked and not self.slots[slot].is_writing

    def is_complete(self, slot: int) -> bool:
        return self.slots[slot].is_complete

    def release(self, slot: int) -> None:
        assert self.slots[slot].is_complete or self.is_quiet(slot)
        self.slots[slot].is_used = False


class Writer:
    """A `LandingWriter` that copies from arena to arena."""

    def __init__(self, source: Arena, pad: Pad, ticket: LandingTicket) -> None:
        self.num_bytes = 0
        self.source, self.pad, self.ticket = source, pad, ticket

    @property
    def slot(self) -> Slot:
        return self.pad.slots[self.ticket.slot]

    @property
    def is_open(self) -> bool:
        return self.slot.generation == self.ticket.generation and not self.slot.is_revoked

    def push_blocks(self, blocks: list[int], first: int) -> None:
        if not self.is_open:
            return
        size = self.source.block_bytes
        for number, block in enumerate(blocks, first - self.ticket.first_block):
            if number >= 0:
                target = self.ticket.blocks[number]
                content = self.source.memory[block * size : (block + 1) * size]
                self.pad.arena.memory[target * size : (target + 1) * size] = content
                self.num_bytes += size

    def complete(self) -> None:
        if self.is_open:
            self.slot.is_complete = True

    def close(self) -> None:
        self.slot.is_writing = False


@dataclass
class Resident:
    """A sequence of a peer."""

    blocks: list[int]
    num_tokens: int


class ToyExecutor:
    """A `SequenceHost` and, for the peer, the `RemotePeer` that attends over a toy's words."""

    max_rows = 64
    is_broken = False

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.is_alive = True
        self.fails = 0.0
        self.random = random.Random(0)
        self.slots: dict[tuple[int, int], Resident] = {}
        self.num_admitted = 0
        self.num_rows = 0

    @property
    def native(self) -> "ToyExecutor":
        return self

    def reconnect(self, timeout_s: float) -> None:
        raise OffloadError("it is gone")

    def stats(self) -> RemoteStats:
        return RemoteStats(
            num_steps=0,
            num_messages=0,
            num_rows=self.num_rows,
            num_bytes=0,
            round_trip_ns=0,
            wait_ns=0,
            num_failures=0,
        )

    def admit(self, blocks: list[int], num_tokens: int) -> RemoteName:
        self.num_admitted += 1
        name = RemoteName(self.num_admitted % 7, self.num_admitted)
        self.slots[name] = Resident(list(blocks), num_tokens)
        return name

    def release(self, name: RemoteName) -> bool:
        return self.slots.pop(name, None) is not None

    def num_tokens(self, name: RemoteName) -> int | None:
        resident = self.slots.get(name)
        return None if resident is None else resident.num_tokens

    def table(self, slot: int, generation: int, position: int) -> list[int] | None:
        """Blocks of a sequence whose token at `position` is computed; None: refused."""
        resident = self.slots.get((slot, generation))
        if resident is None or position != resident.num_tokens or not self.is_alive:
            return None
        if self.random.random() < self.fails:
            return None
        resident.num_tokens += 1
        self.num_rows += 1
        return resident.blocks


class AwayIfLong:
    """A `PrefillPlacement`: everything beyond some tokens."""

    def __init__(self, min_tokens: int = 1, patience_s: float = 1e9) -> None:
        self.min_tokens, self.wait_s = min_tokens, patience_s

    def is_away(self, num_cached: int, num_new: int, num_running: int) -> bool:
        return num_new >= self.min_tokens

    def patience_s(self, num_cached: int, num_new: int) -> float:
        return self.wait_s

    def observe(self, first: int, num_tokens: int, seconds: float) -> None:
        assert num_tokens > 0


class UpTo:
    """An `OffloadRule`: so many remote sequences for each local one."""

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio

    def is_remote(self, num_tokens: int, max_tokens: int, load: DecodeLoad) -> bool:
        assert num_tokens <= max_tokens
        return len(load.remote) + 1 <= self.ratio * max(load.local_seqs, 1)

    def call_back(self, load: DecodeLoad) -> list[int]:
        if self.ratio > 1:
            return []
        return list(range(load.local_seqs, len(load.remote)))


class Cluster:
    """Engines that compute prompts for each other, with messages that take their time."""

    def __init__(
        self,
        num_engines: int,
        seed: int = 0,
        placement: AwayIfLong | None = None,
        loss: float = 0.0,
        ratio: float | None = None,
        **settings: object,
    ) -> None:
        """`loss`: of jobs so many are lost with a worker that dies; `ratio`: of sequences that stay
        with peers to others."""
        self.random = random.Random(seed)
        self.pads: dict[str, Pad] = {}
        self.loss = loss
        self.ratio = ratio
        self.executors: dict[str, ToyExecutor] = {}
        self.placement = placement or AwayIfLong()
        self.clock = Clock()
        self.engines: list[LLMEngine] = [
            make_engine(
                peers=lambda arena, n=n: self._memory(n, arena),  # type: ignore[misc]
                clock=self.clock,
                **settings,  # type: ignore[arg-type]
            )
            for n in range(num_engines)
        ]
        for engine in self.engines:
            assert engine.handover is not None
            engine.handover.set_peers(num_engines - 1)
        self.owner: dict[str, int] = {}
        self.worker: dict[str, int] = {}
        self.commands: list[tuple[int, object]] = []
        self.outcomes: list[str] = []

    def _memory(self, number: int, arena: Arena) -> PeerMemory:
        pad = Pad(f"engine-{number}", arena)
        self.pads[pad.name] = pad

        def open_writer(ticket: LandingTicket) -> Writer:
            if ticket.region not in self.pads:
                raise LandingError(f"no region {ticket.region}")
            return Writer(arena, self.pads[ticket.region], ticket)

        if self.ratio is None:
            return PeerMemory(pad, open_writer, self.placement)
        self.executors[pad.name] = executor = ToyExecutor(arena)
        offload = Offload(UpTo(self.ratio), self)
        return PeerMemory(pad, open_writer, self.placement, offload, executor)

    def connect(self, region: str) -> ToyExecutor:
        """See `Executors`."""
        if not self.executors[region].is_alive:
            raise OffloadError("it is gone")
        return self.executors[region]

    def route(self) -> None:
        """Takes what engines say, and delivers some of what was said before."""
        self.clock.now += ROUND_S
        for number, engine in enumerate(self.engines):
            peers = engine.handover
            assert peers is not None
            for job in peers.take_wanted():
                self.owner[job.job_id] = number
                others = [n for n in range(len(self.engines)) if n != number]
                self.worker[job.job_id] = self.random.choice(others)
                self.commands.append((self.worker[job.job_id], job))
            for unwanted in peers.take_unwanted():
                self.commands.append((self.worker[unwanted.job_id], unwanted))
            for done in peers.take_done():
                self.outcomes.append(done.outcome)
                self.commands.append((self.owner[done.job_id], done))
        while self.commands and self.random.random() < 0.7:
            self._deliver(*self.commands.pop(0))

    def _deliver(self, number: int, said: object) -> None:
        peers = self.engines[number].handover
        assert peers is not None
        if isinstance(said, PrefillDone):
            peers.end_job(said)
        elif isinstance(said, Unwanted):
            peers.cancel_job(*said)
        elif isinstance(said, PrefillJob):
            if self.random.random() < self.loss:
                lost = PrefillDone(job_id=said.job_id, outcome="failed", error="the worker died")
                self.commands.append((self.owner[said.job_id], lost))
            else:
                peers.add_job(said)

    @property
    def has_work(self) -> bool:
        return bool(self.commands) or any(engine.has_work() for engine in self.engines)
