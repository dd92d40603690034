"""Names of what is gone: would it have been there with more room?"""

from collections import OrderedDict

from artesian.files.base import Block


class Ghosts:
    """Blocks that went last, as many bytes of them as a larger share would have kept."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._blocks: OrderedDict[Block, int] = OrderedDict()
        self._used_bytes = 0

    def __len__(self) -> int:
        return len(self._blocks)

    def add(self, block: Block, num_bytes: int) -> None:
        """A block went for want of room."""
        self.take(block)
        self._blocks[block] = num_bytes
        self._used_bytes += num_bytes
        self.resize(self._capacity_bytes)

    def take(self, block: Block) -> bool:
        """A block is wanted, or there again; whether it would have been there."""
        num_bytes = self._blocks.pop(block, None)
        self._used_bytes -= num_bytes or 0
        return num_bytes is not None

    def resize(self, capacity_bytes: int) -> None:
        """How much larger the share is."""
        self._capacity_bytes = capacity_bytes
        while self._used_bytes > capacity_bytes and self._blocks:
            self._used_bytes -= self._blocks.popitem(last=False)[1]
