"""What could be hit by somebody who knows the future."""

import heapq
import math
from collections.abc import Sequence

from artesian.sim.outcome import Outcome
from artesian.sim.serving import Step
from artesian.sim.tiers import Found


def furthest_next_use(steps: Sequence[Step], capacity_bytes: float, outcome: Outcome) -> Outcome:
    """Replays what a server did, on one tier that throws out what is used again last (Belady), of
    one prefix its end first.

    With pieces of one size nobody hits more; with sessions of different sizes it is close to that.
    The order of the requests is that of the recorded run.
    """
    next_uses = _next_uses(steps)
    next_use: dict[bytes, float] = {}
    sizes: dict[bytes, int] = {}
    used_bytes = 0
    order: list[tuple[float, int, bytes]] = []  # a heap; some entries are out of date
    for step, uses in zip(steps, next_uses, strict=True):
        if step.is_save:
            for name in step.names:
                used_bytes += step.num_bytes - sizes.get(name, 0)
                sizes[name] = step.num_bytes
        else:
            missing = (i for i, name in enumerate(step.names) if name not in sizes)
            outcome.admit(step.request, Found(next(missing, len(step.names)), 0), 0)
        for index, (name, use) in enumerate(zip(step.names, uses, strict=True)):
            if name in sizes and (step.is_save or use != next_use.get(name)):
                next_use[name] = use
                heapq.heappush(order, (-use, -index, name))
        while used_bytes > capacity_bytes and order:
            use, _, name = heapq.heappop(order)
            if next_use.get(name) == -use:
                used_bytes -= sizes.pop(name)
                del next_use[name]
    return outcome


def _next_uses(steps: Sequence[Step]) -> list[list[float]]:
    """For each step and each of its blocks: the number of the next step that uses it."""
    coming: dict[bytes, float] = {}
    found: list[list[float]] = []
    for number in range(len(steps) - 1, -1, -1):
        step = steps[number]
        found.append([coming.get(name, math.inf) for name in step.names])
        if not step.is_save:
            for name in step.names:
                coming[name] = number
    found.reverse()
    return found
