"""Tiers: places for KV blocks outside of the arena."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


class ContextCacheError(ValueError):
    """A directory or a size that cannot be used; the message says why."""


Outcome = Literal[
    "saved", "known", "full", "hit", "absent", "vanished", "corrupt", "failed", "removed"
]
"""What became of a save (the first three, or "failed"), a load (the next four, or "failed") or a
removal."""


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


class Tier(Protocol):
    """Keeps blocks by name. Moves are asked for, go on in other threads, and are polled. What other
    processes save is found within a second. No call but `wait` waits for a disk.

    A tier may forget any block at any time, and never returns bytes that differ from those that
    were saved. While a save is under way its block must not change, and while a load is, nobody may
    use its block.

    Attributes:
        label: for people and metrics, such as "disk".
        capacity_bytes: bound of `used_bytes`.
        room_bytes: what a block of the arena takes, overheads included.
    """

    label: str
    capacity_bytes: int
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

    def load(self, name: bytes, block: int) -> int:
        """Begins to load into arena block `block`: a ticket."""

    def remove(self, name: bytes) -> int:
        """Begins to take a block away: a ticket."""

    def poll(self) -> list[Done]:
        """What has ended since the last call."""

    def wait(self, timeout_s: float) -> bool:
        """Waits until there is something to poll, or nothing is open; False when there is not."""

    def entries(self) -> list[Entry]:
        """All blocks that this process knows, in no order."""

    def take_error(self) -> str | None:
        """The text of the last failure since the last call."""
