"""What the reader has passed goes at once."""

from collections import OrderedDict
from collections.abc import Iterator

from artesian.files.base import Block
from artesian.files.policies.base import Eviction

_MOST_AWAITED = 256
_MOST_READERS = 32  # blocks that somebody may still be in


class Eager(Eviction):
    """For data that is read once, in order: blocks that were read are spent, others wait for it."""

    title = "what was read goes first"

    def __init__(self) -> None:
        super().__init__()
        self._coming: OrderedDict[Block, int] = OrderedDict()
        self._passed: OrderedDict[Block, int] = OrderedDict()
        self._awaited: OrderedDict[Block, None] = OrderedDict()  # were wanted before they came

    def __contains__(self, block: object) -> bool:
        return block in self._coming or block in self._passed

    def items(self) -> Iterator[tuple[Block, int]]:
        """See `Eviction`."""
        return iter([*self._passed.items(), *self._coming.items()])

    def add(self, block: Block, num_bytes: int) -> None:
        """See `Eviction`."""
        self.remove(block)
        if block in self._awaited:
            del self._awaited[block]
            self._passed[block] = num_bytes
        else:
            self._coming[block] = num_bytes
        self.used_bytes += num_bytes

    def use(self, block: Block) -> bool:
        """See `Eviction`."""
        num_bytes = self._coming.pop(block, None)
        if num_bytes is not None:
            self._passed[block] = num_bytes
        elif block in self._passed:
            self._passed.move_to_end(block)
        else:
            self._awaited[block] = None
            if len(self._awaited) > _MOST_AWAITED:
                self._awaited.popitem(last=False)
        return False

    def remove(self, block: Block) -> int:
        """See `Eviction`."""
        num_bytes = self._passed.pop(block, None)
        if num_bytes is None:
            num_bytes = self._coming.pop(block, 0)
        self.used_bytes -= num_bytes
        return num_bytes

    def order(self) -> Iterator[Block]:
        """See `Eviction`."""
        return iter([*self.spent(), *self._coming, *list(self._passed)[-_MOST_READERS:]])

    def spent(self) -> Iterator[Block]:
        """See `Eviction`: all that was read, but the blocks that readers are in."""
        return iter(list(self._passed)[:-_MOST_READERS])
