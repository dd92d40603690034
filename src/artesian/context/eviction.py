"""Which blocks of a tier go first. A policy: no I/O, no clock."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

HIGH_WATER = 0.95
LOW_WATER = 0.90


class LeafFirstLru:
    """The blocks used longest ago; of one prefix the last ones first, as they are of no use without
    those before them.
    """

    def __init__(self) -> None:
        self._bytes: OrderedDict[bytes, int] = OrderedDict()  # next to go first

    def __len__(self) -> int:
        return len(self._bytes)

    def __contains__(self, name: bytes) -> bool:
        return name in self._bytes

    def add(self, name: bytes, num_bytes: int) -> None:
        """A block that is there; new ones go last."""
        self._bytes.setdefault(name, num_bytes)

    def forget(self, name: bytes) -> None:
        """The block is not there any more."""
        self._bytes.pop(name, None)

    def use(self, names: Sequence[bytes]) -> None:
        """The blocks of a prefix, first one first, were wanted; unknown ones are passed over."""
        for name in reversed(names):
            if name in self._bytes:
                self._bytes.move_to_end(name)

    def victims(
        self, used_bytes: int, capacity_bytes: int, spared: Iterable[bytes] = ()
    ) -> list[bytes]:
        """Blocks to take away: none below the high water mark, else down to the low one.

        Args:
            spared: blocks that are wanted now.
        """
        if used_bytes <= HIGH_WATER * capacity_bytes:
            return []
        excess = used_bytes - LOW_WATER * capacity_bytes
        keep = set(spared)
        chosen = []
        for name, num_bytes in self._bytes.items():
            if excess <= 0:
                break
            if name not in keep:
                chosen.append(name)
                excess -= num_bytes
        return chosen
