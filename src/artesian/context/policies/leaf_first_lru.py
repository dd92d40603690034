"""The least recently used blocks go first, ends of prefixes before their beginnings."""

from collections.abc import Sequence

from artesian.context.policies.lru import Lru


class LeafFirstLru(Lru):
    """The blocks used longest ago; of one prefix the last ones first, as they are of no use without
    those before them.

    A beginning that several prefixes share is as recent as the last of them, so nothing goes before
    what depends on it: what a radix tree does that evicts its least recently used leaf.
    """

    def use(self, names: Sequence[bytes], now: float = 0.0) -> None:
        """See `EvictionPolicy`."""
        super().use(names[::-1], now)
