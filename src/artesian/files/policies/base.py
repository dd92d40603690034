"""Which blocks of a unit go first: what all such policies have in common.

No policy does I/O or has a clock.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from artesian.files.base import Block


class Eviction(ABC):
    """The blocks of one unit, and the order in which they would go.

    Attributes:
        used_bytes: what they take together; title: a few words for people.
    """

    title: str

    def __init__(self) -> None:
        self.used_bytes = 0

    @abstractmethod
    def __contains__(self, block: object) -> bool: ...

    @abstractmethod
    def items(self) -> Iterator[tuple[Block, int]]:
        """All blocks and their bytes, those that came first, or were used longest ago, first."""

    @abstractmethod
    def add(self, block: Block, num_bytes: int) -> None:
        """A block is there; one that was there already may have another size now."""

    @abstractmethod
    def use(self, block: Block) -> bool:
        """A block is wanted; whether it was among those that a smaller share would have lost."""

    @abstractmethod
    def remove(self, block: Block) -> int:
        """A block is gone; its bytes, 0 if it was not known."""

    @abstractmethod
    def order(self) -> Iterator[Block]:
        """Blocks in the order in which they should go. Others may come and go meanwhile."""

    def spent(self) -> Iterator[Block]:
        """Those that nobody will want again: they go before all others, of other units too."""
        return iter(())

    def resize_margin(self, num_bytes: int) -> None:  # noqa: B027 - few can tell
        """How much smaller the share is that `use` reckons with."""
