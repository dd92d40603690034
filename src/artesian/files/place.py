"""Places that blocks can lie in."""

from typing import Protocol


class Place(Protocol):
    """Keeps blocks by name, for all processes; may lose any of them, but gives no wrong byte.

    Names are 32 bytes and stand for what is in the block, so that writing one twice is harmless.

    Attributes:
        label: for people and tables: `disk`, `memory`.
    """

    @property
    def label(self) -> str:
        """What people call it."""

    def room(self, num_bytes: int) -> int:
        """What a block of so many bytes takes."""

    def write(self, name: bytes, data: bytes) -> None:
        """Keeps a block. Raises `OSError`; then it is not there."""

    def has(self, name: bytes) -> bool:
        """Whether the block is there, unverified."""

    def read(self, name: bytes, num_bytes: int, start: int, end: int) -> bytes | None:
        """Bytes `start` to `end` of a block of `num_bytes`; None if it cannot be had."""

    def read_into(self, name: bytes, num_bytes: int, start: int, view: memoryview) -> bool:
        """Fills `view` with bytes of a block of `num_bytes`, from `start` on; whether it could."""

    def remove(self, name: bytes) -> None:
        """Forgets a block, there or not."""

    def sweep(self, owner: int) -> None:
        """Removes what a dead process, `owner`, had begun to write."""

    def clear(self) -> None:
        """Forgets all blocks."""
