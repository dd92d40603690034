"""A virtual clock: things happen in the order of their times."""

import heapq
import math
from collections.abc import Callable


class EventLoop:
    """Runs actions at their times; equal times in the order in which they were asked for.

    Attributes:
        now: seconds of the virtual clock.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._num_events = 0

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        """Runs `action` then; at once, after what is due, if that has passed."""
        self._num_events += 1
        heapq.heappush(self._events, (max(time_s, self.now), self._num_events, action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Runs `action` so much later."""
        self.at(self.now + delay_s, action)

    def run(self, until_s: float = math.inf) -> None:
        """Until nothing is left to happen by then; the rest may go on in another call."""
        while self._events and self._events[0][0] <= until_s:
            self.now, _, action = heapq.heappop(self._events)
            action()
        if not math.isinf(until_s):
            self.now = max(self.now, until_s)


class Link:
    """Moves bytes at a rate, one transfer after another.

    Attributes:
        num_bytes: all that was asked for; busy_s: how long that takes.
    """

    def __init__(self, loop: EventLoop, bytes_per_s: float) -> None:
        self.num_bytes = 0.0
        self.busy_s = 0.0
        self._loop = loop
        self._bytes_per_s = bytes_per_s
        self._free_s = 0.0

    def move(self, num_bytes: float) -> float:
        """Asks for a transfer; returns when it will be over."""
        duration_s = num_bytes / self._bytes_per_s
        self.num_bytes += num_bytes
        self.busy_s += duration_s
        self._free_s = max(self._free_s, self._loop.now) + duration_s
        return self._free_s
