"""The front's queue before toy engines, on a virtual clock: as fast as it goes, always the same."""

import asyncio
import selectors
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec

from artesian.cluster.overload import OverloadError
from artesian.cluster.policies.fair_share import Waiting
from artesian.cluster.policies.slo_admission import Slo
from artesian.cluster.queue import FrontQueue
from artesian.cluster.workers import Workers
from artesian.config import EngineConfig
from artesian.engine.base import Request, SamplingParams
from artesian.metrics.serving import COUNTERS, GAUGES, ServingMetrics
from artesian.worker.client import ClusterStatus, MemberStatus
from artesian.worker.stream import RequestStream
from tests.worker.toy import ToyEngine

STEP_S = 0.01


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of waiting for it."""

    now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now_s = max(self.now_s, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def run_virtually(work: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop(selectors.SelectSelector())
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


@dataclass
class Outcome:
    key: str
    ttft_s: float | None = None
    tpot_s: float | None = None
    refusal: OverloadError | None = None


class ToyFront:
    """Toy engines, each stepped every 10 ms and dearer by what it computes, behind one queue."""

    def __init__(
        self,
        slo: Slo,
        num_workers: int = 1,
        max_num_seqs: int = 8,
        max_queue_len: int = 64,
        weights: dict[str, float] | None = None,
        num_keys: int = 1,
        decode_s: float = 0.0,
    ) -> None:
        config = EngineConfig(model="toy", max_num_seqs=max_num_seqs, max_queue_len=10_000)
        self.engines = [ToyEngine(config, 0.0) for _ in range(num_workers)]
        self.busy_s = [0.0] * num_workers
        self.decode_s = decode_s
        self.streams: dict[str, RequestStream] = {}
        self.metrics = ServingMetrics(lambda: dict.fromkeys([*GAUGES, *COUNTERS], 0.0))
        self.loop = asyncio.get_running_loop()
        self.queue = FrontQueue(
            max_queue_len,
            slo,
            self.metrics,
            Workers(self.status, max_num_seqs, 1024),
            weights=weights,
            num_keys=num_keys,
            clock=self.loop.time,
        )
        self.most_running = 0
        self._tasks = [asyncio.create_task(self._work(i)) for i in range(num_workers)]
        self._number = 0

    def status(self) -> ClusterStatus:
        members = []
        for index, engine in enumerate(self.engines):
            stats = msgspec.structs.replace(engine.stats(), busy_s=self.busy_s[index])
            member = MemberStatus(
                worker_id=f"w{index}", generation=1, role="both", state="ready", stats=stats
            )
            members.append(member)
        return ClusterStatus(members=members)

    async def _work(self, index: int) -> None:
        engine = self.engines[index]
        while True:
            if not engine.has_work():
                await asyncio.sleep(STEP_S / 10)
                continue
            step_s = STEP_S + self.decode_s * len(engine.running)
            await asyncio.sleep(step_s)
            self.busy_s[index] += step_s
            for output in engine.step():
                if (stream := self.streams.get(output.request_id)) is not None:
                    stream.push(output)
            self.most_running = max(self.most_running, len(engine.running))

    async def ask(self, key: str = "", num_tokens: int = 40, priority: int = 0) -> Outcome:
        self._number += 1
        call_id = f"call-{self._number}"
        started = self.loop.time()
        item = Waiting(call_id, key, priority, 1, 10, num_tokens, started)
        try:
            turn = await self.queue.enter(item)
        except OverloadError as error:
            return Outcome(key, refusal=error)
        request = Request(
            request_id=call_id,
            prompt_token_ids=[97] * 10,
            sampling=SamplingParams(max_tokens=num_tokens),
        )
        stream = self.streams[call_id] = RequestStream(request, 10_000)
        min(self.engines, key=lambda e: len(e.waiting) + len(e.running)).add_request(request)
        turn.follow([stream])
        try:
            await stream.get()
            first = self.loop.time()
            while not stream.finished:
                await stream.get()
        finally:
            self.queue.end(turn)
        tpot_s = (self.loop.time() - first) / (num_tokens - 1)
        return Outcome(key, first - started, tpot_s)

    async def open_loop(self, per_s: float, seconds: float, **call: Any) -> list[Outcome]:
        tasks = []
        for _ in range(round(per_s * seconds)):
            tasks.append(asyncio.create_task(self.ask(**call)))
            await asyncio.sleep(1 / per_s)
        return list(await asyncio.gather(*tasks))

    async def closed_loop(self, key: str, clients: int, seconds: float) -> int:
        """So many clients, each asking again at once; returns how many answers there were."""
        until_s = self.loop.time() + seconds
        answers = 0

        async def one() -> None:
            nonlocal answers
            while self.loop.time() < until_s:
                outcome = await self.ask(key)
                if outcome.refusal is not None:
                    await asyncio.sleep(0.05)
                elif self.loop.time() < until_s:
                    answers += 1

        await asyncio.gather(*(one() for _ in range(clients)))
        return answers

    async def close(self) -> None:
        self.queue.close("the end")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
