"""What could be hit by somebody who knows the future and fetches nothing ahead."""

import heapq
import math
from collections.abc import Sequence

from artesian.files.base import Block


def furthest_next_use(order: Sequence[tuple[Block, int]], capacity_bytes: int) -> float:
    """Hit ratio of blocks wanted in this order, if what is wanted again last goes (Belady).

    Of all that want the same room nobody hits more; with blocks of different sizes it is close.
    """
    next_use: list[float] = [math.inf] * len(order)
    coming: dict[Block, int] = {}
    for place in range(len(order) - 1, -1, -1):
        block = order[place][0]
        next_use[place] = coming.get(block, math.inf)
        coming[block] = place
    held: dict[Block, tuple[float, int]] = {}
    heap: list[tuple[float, int, Block]] = []
    used = hits = 0
    for place, (block, size) in enumerate(order):
        known = held.get(block)
        if known is not None:
            hits += 1
        else:
            used += size
        held[block] = (next_use[place], size)
        heapq.heappush(heap, (-next_use[place], place, block))
        while used > capacity_bytes:
            when, _, gone = heapq.heappop(heap)
            if held.get(gone, (0.0, 0))[0] == -when:
                used -= held.pop(gone)[1]
    return hits / max(1, len(order))
