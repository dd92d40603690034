"""An origin on a virtual clock: some latency, and one link that all requests share."""

import heapq
from collections.abc import Callable, Sequence

from artesian.files.base import Block
from artesian.sim.events import EventLoop, Link

_MOST_AHEAD = 6
_MOST_WAITING = 1024
Arrival = Callable[[Sequence[tuple[Block, int]], float], None]
"""Blocks and their bytes have come; seconds that the request took."""


class Origin:
    """Requests take the latency, then the link, one after another in the order of asking.

    What is fetched ahead has a few requests at a time, and what fills the background one only, when
    nothing else waits.

    Attributes:
        num_bytes: that were given; num_requests.
    """

    def __init__(self, loop: EventLoop, latency_s: float, bytes_per_s: float) -> None:
        self.num_bytes = 0
        self.num_requests = 0
        self._loop = loop
        self._latency_s = latency_s
        self._link = Link(loop, bytes_per_s)
        self._num_ahead = 0
        self._num_waiting = 0
        self._queue: list[tuple[int, int, Sequence[tuple[Block, int]], Arrival]] = []
        self._asked = 0

    def fetch(self, blocks: Sequence[tuple[Block, int]], arrival: Arrival) -> None:
        """Somebody waits for blocks that lie behind each other."""
        self._num_waiting += 1

        def done(found: Sequence[tuple[Block, int]], took_s: float) -> None:
            self._num_waiting -= 1
            arrival(found, took_s)
            self._pump()

        self._send(blocks, done)

    def fetch_ahead(
        self, blocks: Sequence[tuple[Block, int]], arrival: Arrival, *, is_background: bool
    ) -> bool:
        """Somebody may want blocks later; False if too much waits already."""
        if len(self._queue) >= _MOST_WAITING:
            return False
        self._asked += 1
        heapq.heappush(self._queue, (int(is_background), self._asked, blocks, arrival))
        self._pump()
        return True

    def _pump(self) -> None:
        while self._queue and self._num_ahead < _MOST_AHEAD:
            is_background = self._queue[0][0] == 1
            if is_background and (self._num_ahead or self._num_waiting):
                return
            _, _, blocks, arrival = heapq.heappop(self._queue)
            self._num_ahead += 1
            self._send(blocks, self._ended(arrival))

    def _ended(self, arrival: Arrival) -> Arrival:
        def done(found: Sequence[tuple[Block, int]], took_s: float) -> None:
            self._num_ahead -= 1
            arrival(found, took_s)
            self._pump()

        return done

    def _send(self, blocks: Sequence[tuple[Block, int]], arrival: Arrival) -> None:
        num_bytes = sum(size for _, size in blocks)
        self.num_bytes += num_bytes
        self.num_requests += 1
        begin_s = self._loop.now

        def on_link() -> None:
            end_s = self._link.move(num_bytes)
            self._loop.at(end_s, lambda: arrival(blocks, self._loop.now - begin_s))

        self._loop.after(self._latency_s, on_link)
