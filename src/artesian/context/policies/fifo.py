"""First in, first out."""

from collections import OrderedDict
from collections.abc import Sequence, Set

from artesian.context.policies.base import EvictionPolicy, first_ones


class Fifo(EvictionPolicy):
    """The blocks that came first go first, whether they are used or not. For comparison."""

    def __init__(self) -> None:
        self._bytes: OrderedDict[bytes, int] = OrderedDict()  # next to go first

    def __len__(self) -> int:
        return len(self._bytes)

    def __contains__(self, name: object) -> bool:
        return name in self._bytes

    def add(self, name: bytes, num_bytes: int, now: float = 0.0, tenant: str = "") -> None:
        """See `EvictionPolicy`; new ones go last."""
        self._bytes[name] = num_bytes

    def forget(self, name: bytes) -> None:
        """See `EvictionPolicy`."""
        self._bytes.pop(name, None)

    def use(self, names: Sequence[bytes], now: float = 0.0) -> None:
        """Changes nothing."""

    def choose(self, num_bytes: float, spared: Set[bytes], now: float) -> list[bytes]:
        """See `EvictionPolicy`."""
        return first_ones(self._bytes.items(), num_bytes, spared)
