"""A server of one model: queue, slots, accelerators, and the context cache beside them."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from artesian.context.policies import Rank
from artesian.sim.cost import CostModel
from artesian.sim.events import EventLoop, Link
from artesian.sim.outcome import Outcome
from artesian.sim.requests import Request, Workload
from artesian.sim.tiers import Found, Tiers


@dataclass(slots=True)
class _Accelerator:
    """Prefills run one after another, and decoding stands still meanwhile.

    Attributes:
        free_s: the last prefill ends then; spent_s: all of them together.
    """

    free_s: float = 0.0
    spent_s: float = 0.0


class Step(NamedTuple):
    """What happened in the cache: a request began that uses blocks, or ended and saves them.

    Attributes:
        num_bytes: of each block that is saved.
    """

    request: Request
    is_save: bool
    names: list[bytes]
    num_bytes: int


class Serving:
    """Requests wait in order of arrival, take a slot, load or compute their history, answer, save.

    A request with history on disk alone takes its slot and waits there for the disk; loading from
    host memory overlaps with the prefill layer by layer, so that the longer of the two counts.
    With `steps`, everything that happens in the cache is appended to them.
    """

    def __init__(
        self,
        loop: EventLoop,
        cost: CostModel,
        tiers: Tiers,
        workload: Workload,
        outcome: Outcome,
        steps: list[Step] | None = None,
    ) -> None:
        self._loop = loop
        self._cost = cost
        self._tiers = tiers
        self._workload = workload
        self._outcome = outcome
        self._steps = steps
        self._queue: deque[tuple[Rank, Request]] = deque()
        self._num_arrived = 0
        self._num_running = 0
        self._accelerator = _Accelerator()
        self._device = Link(loop, cost.device_bytes_per_s)

    def run(self) -> Outcome:
        """Serves the whole workload."""
        for arrival_s, request in self._workload.arrivals():
            self._arrive_at(arrival_s, request)
        self._loop.run()
        self._outcome.end(self._loop.now, self._accelerator.spent_s, self._tiers)
        return self._outcome

    def _arrive_at(self, time_s: float, request: Request) -> None:
        self._loop.at(time_s, lambda: self._arrive(request))

    def _arrive(self, request: Request) -> None:
        self._num_arrived += 1
        rank = (self._num_arrived,)
        self._queue.append((rank, request))
        self._tiers.enqueue(rank, request.names)
        self._admit()
        self._tiers.look_ahead()

    def _admit(self) -> None:
        while self._queue and self._num_running < self._cost.num_slots:
            rank, request = self._queue.popleft()
            self._num_running += 1
            found = self._tiers.find(request.names)
            self._tiers.dequeue(rank)
            self._tiers.use(request.names)
            if self._steps is not None:
                self._steps.append(Step(request, False, request.names, 0))
            self._outcome.admit(request, found, len(self._queue))
            prefill = self._prefill(request, found)
            if found.num_disk:
                num_there = found.num_host + found.num_disk
                self._tiers.fetch(request.names[:num_there], prefill)
            else:
                prefill()

    def _prefill(self, request: Request, found: Found) -> Callable[[], None]:
        begin_s = self._loop.now

        def begin() -> None:
            num_loaded = (found.num_host + found.num_disk) * request.block_tokens
            num_loaded = min(num_loaded, request.num_prompt_tokens - 1)
            compute_s = (request.num_prompt_tokens - num_loaded) * self._cost.prefill_s
            start_s = max(self._loop.now, self._accelerator.free_s)
            load_s = self._device.move(num_loaded * self._cost.kv_bytes) - self._loop.now
            end_s = max(start_s + compute_s, self._loop.now + load_s)
            self._accelerator.free_s = start_s + compute_s
            self._accelerator.spent_s += compute_s
            self._outcome.first_token(begin_s, end_s)
            self._loop.at(end_s, lambda: self._decode(request, self._decode_s(request)))

        return begin

    def _decode_s(self, request: Request) -> float:
        return request.num_output_tokens * self._cost.decode_s

    def _decode(self, request: Request, left_s: float) -> None:
        """Decodes for so long, and longer if prefills come between."""
        spent_s = self._accelerator.spent_s

        def look() -> None:
            stalled_s = self._accelerator.spent_s - spent_s
            if stalled_s > 1e-6:
                self._decode(request, stalled_s)
            else:
                self._end(request)

        self._loop.after(left_s, look)

    def _end(self, request: Request) -> None:
        num_bytes = int(request.kept_tokens * self._cost.kv_bytes)
        self._tiers.save(request.kept, num_bytes)
        if self._steps is not None:
            self._steps.append(Step(request, True, request.kept, num_bytes))
        self._num_running -= 1
        following = self._workload.following(request)
        if following is not None:
            gap_s, turn = following
            self._arrive_at(self._loop.now + gap_s, turn)
        self._admit()
        self._tiers.look_ahead()
