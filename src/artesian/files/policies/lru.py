"""What was used longest ago goes first; knows what the last bytes of its room are worth."""

from collections import OrderedDict
from collections.abc import Iterator

from artesian.files.base import Block
from artesian.files.policies.base import Eviction


class Lru(Eviction):
    """Two lists in the order of use; the older has as many bytes as a smaller share would lose."""

    title = "what was used longest ago goes first"

    def __init__(self, margin_bytes: int = 0) -> None:
        super().__init__()
        self._newer: OrderedDict[Block, int] = OrderedDict()
        self._older: OrderedDict[Block, int] = OrderedDict()
        self._older_bytes = 0
        self._margin_bytes = margin_bytes

    def __contains__(self, block: object) -> bool:
        return block in self._newer or block in self._older

    def items(self) -> Iterator[tuple[Block, int]]:
        """See `Eviction`."""
        return iter([*self._older.items(), *self._newer.items()])

    def add(self, block: Block, num_bytes: int) -> None:
        """See `Eviction`."""
        self.remove(block)
        self._newer[block] = num_bytes
        self.used_bytes += num_bytes
        self._balance()

    def use(self, block: Block) -> bool:
        """See `Eviction`."""
        if block in self._newer:
            self._newer.move_to_end(block)
            return False
        num_bytes = self._older.pop(block, None)
        if num_bytes is None:
            return False
        self._older_bytes -= num_bytes
        self._newer[block] = num_bytes
        self._balance()
        return True

    def remove(self, block: Block) -> int:
        """See `Eviction`."""
        num_bytes = self._newer.pop(block, None)
        if num_bytes is None:
            num_bytes = self._older.pop(block, 0)
            self._older_bytes -= num_bytes
            self._balance()
        self.used_bytes -= num_bytes
        return num_bytes

    def order(self) -> Iterator[Block]:
        """See `Eviction`."""
        return iter([*self._older, *self._newer])

    def resize_margin(self, num_bytes: int) -> None:
        """See `Eviction`."""
        self._margin_bytes = num_bytes
        self._balance()

    def _balance(self) -> None:
        while self._newer and self._older_bytes < self._margin_bytes:
            block, num_bytes = self._newer.popitem(last=False)
            self._older[block] = num_bytes
            self._older_bytes += num_bytes
