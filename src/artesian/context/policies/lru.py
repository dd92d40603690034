"""Least recently used, without regard to what depends on what."""

from collections.abc import Sequence

from artesian.context.policies.fifo import Fifo


class Lru(Fifo):
    """The blocks used longest ago go first; of one prefix that is its beginning.

    For comparison, and right where every name stands for a whole session.
    """

    def use(self, names: Sequence[bytes], now: float = 0.0) -> None:
        """See `EvictionPolicy`."""
        for name in names:
            if name in self._bytes:
                self._bytes.move_to_end(name)
