"""What is there stays, what does not fit passes through."""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

from artesian.files.base import Block
from artesian.files.policies.base import Eviction

_LATEST = 64
"""Guests that were read last stay a little, if they are no more than a quarter of all blocks."""


class KeepResidents(Eviction):
    """For data of which all is read once before anything is read again, in whatever order.

    Then any set of blocks that stays is hit as often as it is large, and exchanging blocks wins
    nothing. If some have to go, those used last do: they are wanted again last. What comes beyond
    the share is a guest: it stays until it was read, and a little longer, as a block is often read
    in pieces.
    """

    title = "what is there stays; what comes beyond the share goes when it was read"

    def __init__(self) -> None:
        super().__init__()
        self._blocks: OrderedDict[Block, int] = OrderedDict()
        self._guests: dict[Block, int] = {}
        self._leaving: dict[Block, int] = {}

    def __contains__(self, block: object) -> bool:
        return block in self._blocks or block in self._guests or block in self._leaving

    def items(self) -> Iterator[tuple[Block, int]]:
        """See `Eviction`."""
        return iter([*self._leaving.items(), *self._guests.items(), *self._blocks.items()])

    def add(self, block: Block, num_bytes: int) -> None:
        """See `Eviction`."""
        self.remove(block)
        self._blocks[block] = num_bytes
        self.used_bytes += num_bytes

    def add_guest(self, block: Block, num_bytes: int, *, was_read: bool) -> None:
        """A block is there, though there is no room for one more to stay."""
        self.remove(block)
        (self._leaving if was_read else self._guests)[block] = num_bytes
        self.used_bytes += num_bytes

    def use(self, block: Block) -> bool:
        """See `Eviction`; one block is worth as much as another."""
        if block in self._blocks:
            self._blocks.move_to_end(block)
        elif block in self._guests:
            self._leaving[block] = self._guests.pop(block)
        elif block in self._leaving:
            self._leaving[block] = self._leaving.pop(block)
        return False

    def remove(self, block: Block) -> int:
        """See `Eviction`."""
        for blocks in (self._blocks, self._guests, self._leaving):
            num_bytes = blocks.pop(block, None)
            if num_bytes is not None:
                self.used_bytes -= num_bytes
                return num_bytes
        return 0

    def order(self) -> Iterator[Block]:
        """See `Eviction`."""
        return iter([*self._leaving, *reversed(self._blocks), *self._guests])

    def spent(self) -> Iterator[Block]:
        """See `Eviction`: guests that were read, but for the latest."""
        num_blocks = len(self._blocks) + len(self._guests) + len(self._leaving)
        num_spent = max(0, len(self._leaving) - min(_LATEST, num_blocks // 4))
        return iter(list(islice(self._leaving, num_spent)))
