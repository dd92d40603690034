"""Tiers: places for KV blocks outside of the arena."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol


class ContextCacheError(ValueError):
    """A directory or a size that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Compression:
    """How a tier makes blocks smaller, and what is in them.

    Attributes:
        codec: `zstd` loses nothing; `int8` rounds to bytes, with a scale for each token and head.
        shape: layers, KV heads, their dimension, tokens of a block, number format, summaries.
    """

    codec: Literal["zstd", "int8"]
    shape: tuple[int, int, int, int, str, str]


Outcome = Literal[
    "saved", "known", "full", "hit", "absent", "vanished", "corrupt", "failed", "skipped", "removed"
]
"""What became of a save (the first three, or "failed"), a load ("hit" to "skipped", the last one
for blocks behind one that could not be had, or that nobody wanted any more) or a removal."""


@dataclass(frozen=True, slots=True)
class Done:
    """A save, load or removal that has ended.

    Attributes:
        took_s: how long it took once its turn had come.
    """

    ticket: int
    outcome: Outcome
    took_s: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A block of a tier: its name, the bytes that it takes there, when it was saved (Unix time)."""

    name: bytes
    num_bytes: int
    saved_s: float


class Move(NamedTuple):
    """Bytes `first` to `end` of a block were saved, or else loaded; `time.monotonic` seconds."""

    is_save: bool
    first: int
    end: int
    start_s: float
    end_s: float


class Gate(Protocol):
    """How far the blocks of a load have come. They come layer by layer, each layer of all blocks
    before the next; see `LayerGate` in `crates/tier`."""

    @property
    def ready_bytes(self) -> int:
        """Of every block so many bytes are there and verified, from its start on."""

    @property
    def is_open(self) -> bool:
        """Whether more may come, or all is there: no block failed, and nobody gave up waiting."""

    @property
    def is_complete(self) -> bool:
        """Whether it is open, and all is there: then `Tier.poll` tells of all its blocks."""

    @property
    def elapsed_s(self) -> float:
        """How long the load has had its turn; 0 before that."""

    def wait(self, num_bytes: int, timeout_s: float) -> bool:
        """Waits until `ready_bytes` are so many; if they are not in time it is open no more."""


@dataclass(frozen=True, slots=True)
class Load:
    """Blocks on their way from one tier: a ticket for each, and how far all of them have come."""

    tickets: list[int]
    gate: Gate


class Tier(Protocol):
    """Keeps blocks by name. Moves are asked for, go on in other threads, and are polled. What other
    processes save is found within a second. No call but `wait` waits for a disk.

    A tier may forget any block at any time, and never returns bytes that differ from those that
    were saved. While a save is under way its block must not change, and while a load is, nobody may
    write to its block, or read more of it than the gate has told of.

    Attributes:
        label: for people and metrics, such as "disk".
        capacity_bytes: bound of `used_bytes`.
        block_bytes: a block of the arena.
        room_bytes: what it takes here, overheads included.
    """

    label: str
    capacity_bytes: int
    block_bytes: int
    room_bytes: int

    @property
    def used_bytes(self) -> int:
        """Bytes of all blocks, overheads and other processes' included."""

    @property
    def num_open(self) -> int:
        """Moves that have not ended."""

    def find(self, names: Sequence[bytes]) -> int:
        """How many of the first `names` are there."""

    def save(self, name: bytes, block: int) -> int | None:
        """Begins to save arena block `block`: a ticket, or None when too many saves wait."""

    def copy(self, name: bytes, source: "Tier") -> int | None:
        """Begins to save a block of another tier: as `save`.

        When it cannot be loaded from there, the outcome is that of a load.
        """

    def load(self, names: Sequence[bytes], blocks: Sequence[int]) -> Load:
        """Begins to load blocks, one at least, into these arena blocks.

        When one cannot be had, those before it are loaded all the same, and those behind it are
        skipped. Loads go in the order in which they were asked for.
        """

    def cancel(self, load: Load) -> None:
        """Nobody wants the blocks any more. Their tickets end all the same."""

    def remove(self, name: bytes) -> int:
        """Begins to take a block away: a ticket."""

    def poll(self) -> list[Done]:
        """What has ended since the last call."""

    def wait(self, timeout_s: float) -> bool:
        """Waits until there is something to poll, a load has come further, or nothing is open;
        False when there is no news."""

    def entries(self) -> list[Entry]:
        """All blocks that this process knows, in no order."""

    def take_error(self) -> str | None:
        """The text of the last failure since the last call."""
