"""S3-FIFO: most of what comes is wanted once, and goes before what was wanted again."""

from collections import OrderedDict
from collections.abc import Iterator

from artesian.files.base import Block
from artesian.files.policies.base import Eviction

_SMALL_SHARE = 0.1
_MOST_USES = 3


class S3Fifo(Eviction):
    """After S3-FIFO (SOSP '23, algorithm 1): a small and a main queue, and ghosts of the small one.

    Uses are counted to 3; from the small queue a block with more than one goes on to the main one,
    which gives those with any another round. Ghosts are as many as the main queue has blocks.
    """

    title = "what was wanted once goes before what was wanted again (S3-FIFO)"

    def __init__(self, margin_bytes: int = 0) -> None:
        super().__init__()
        self._small: OrderedDict[Block, int] = OrderedDict()
        self._main: OrderedDict[Block, int] = OrderedDict()
        self._ghosts: OrderedDict[Block, None] = OrderedDict()
        self._uses: dict[Block, int] = {}
        self._small_bytes = 0

    def __contains__(self, block: object) -> bool:
        return block in self._uses

    def items(self) -> Iterator[tuple[Block, int]]:
        """See `Eviction`."""
        return iter([*self._small.items(), *self._main.items()])

    def add(self, block: Block, num_bytes: int) -> None:
        """See `Eviction`."""
        self.remove(block)
        if block in self._ghosts:
            del self._ghosts[block]
            self._main[block] = num_bytes
        else:
            self._small[block] = num_bytes
            self._small_bytes += num_bytes
        self._uses[block] = 0
        self.used_bytes += num_bytes

    def use(self, block: Block) -> bool:
        """See `Eviction`; says nothing of a smaller share."""
        uses = self._uses.get(block)
        if uses is not None:
            self._uses[block] = min(uses + 1, _MOST_USES)
        return False

    def remove(self, block: Block) -> int:
        """See `Eviction`."""
        if self._uses.pop(block, None) is None:
            return 0
        num_bytes = self._small.pop(block, None)
        if num_bytes is None:
            num_bytes = self._main.pop(block)
        else:
            self._small_bytes -= num_bytes
            self._ghosts[block] = None
            while len(self._ghosts) > max(len(self._main), 16):
                self._ghosts.popitem(last=False)
        self.used_bytes -= num_bytes
        return num_bytes

    def order(self) -> Iterator[Block]:
        """See `Eviction`; blocks that stay move on meanwhile."""
        chosen: set[Block] = set()
        for _ in range((_MOST_USES + 2) * len(self._uses)):
            block = self._next(chosen)
            if block is None:
                return
            if block in self._uses:
                chosen.add(block)
                yield block

    def _next(self, chosen: set[Block]) -> Block | None:
        """The next to go that was not chosen yet."""
        small = next((b for b in self._small if b not in chosen), None)
        main = next((b for b in self._main if b not in chosen), None)
        if small is not None and (
            main is None or self._small_bytes > _SMALL_SHARE * self.used_bytes
        ):
            if self._uses[small] <= 1:
                return small
            num_bytes = self._small.pop(small)
            self._small_bytes -= num_bytes
            self._main[small] = num_bytes
            self._uses[small] = 0
            return self._next(chosen)
        while main is not None and self._uses[main] > 0:
            self._uses[main] -= 1
            self._main.move_to_end(main)
            main = next((b for b in self._main if b not in chosen), None)
        return main
