"""Requests wait at a gate, and the steps of their lives are told."""

import asyncio
import os
import signal

import pytest

from artesian.engine.base import QueueFullError, Request, SamplingParams
from artesian.worker.base import RequestDeadlineError
from artesian.worker.hooks import Hooks, RequestEvent
from tests.worker.conftest import StartSupervisor
from tests.worker.test_supervisor import BUFFER_TOKENS, collect, request, text_of
from tests.worker.toy import continuation


class Recorder:
    def __init__(self) -> None:
        self.events: list[RequestEvent] = []

    def note(self, event: RequestEvent) -> None:
        self.events.append(event)

    def kinds(self, request_id: str) -> list[str]:
        return [event.kind for event in self.events if event.request_id == request_id]


class OneAtATime:
    """A gate; refuses requests called "bad"."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.most = 0
        self._waiting: dict[str, asyncio.Event] = {}

    async def enter(self, request: Request) -> None:
        if request.request_id == "bad":
            raise QueueFullError("not now")
        if self.inside:
            event = self._waiting[request.request_id] = asyncio.Event()
            await event.wait()
        else:
            self.inside.append(request.request_id)
        self.most = max(self.most, len(self.inside))

    def leave(self, request_id: str) -> None:
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None:
            waiting.set()
        if request_id in self.inside:
            self.inside.remove(request_id)
            if self._waiting:
                following = next(iter(self._waiting))
                self.inside.append(following)
                self._waiting.pop(following).set()


class Broken:
    def note(self, event: RequestEvent) -> None:
        raise RuntimeError("no room for events")


async def test_the_steps_of_a_life_are_told_in_order(start_supervisor: StartSupervisor) -> None:
    recorder = Recorder()
    supervisor = await start_supervisor(hooks=Hooks(observers=[Broken(), recorder]))
    await collect(await supervisor.submit(request("ab"), BUFFER_TOKENS))
    assert recorder.kinds("r") == [
        *("arrived", "let_in", "routed", "admitted", "first_token", "finished")
    ]
    assert recorder.events[-1].detail == "length" and recorder.events[-1].worker == "w1.1"
    times = [event.time_s for event in recorder.events]
    assert times == sorted(times)


async def test_a_retry_is_told(start_supervisor: StartSupervisor) -> None:
    recorder = Recorder()
    supervisor = await start_supervisor("toy:5", hooks=Hooks(observers=[recorder]))
    stream = await supervisor.submit(request("ab", max_tokens=60), BUFFER_TOKENS)
    await stream.get()
    assert supervisor.pid is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    await collect(stream)
    workers = [(e.kind, e.worker) for e in recorder.events if e.kind in ("routed", "retried")]
    assert workers == [("routed", "w1.1"), ("retried", "w1.1"), ("routed", "w1.2")]


async def test_requests_wait_at_the_gate(start_supervisor: StartSupervisor) -> None:
    gate, recorder = OneAtATime(), Recorder()
    supervisor = await start_supervisor(hooks=Hooks(gate, [recorder]))

    async def run(request_id: str) -> str:
        stream = await supervisor.submit(request("ab", request_id), BUFFER_TOKENS)
        return text_of(await collect(stream))

    texts = await asyncio.gather(*(run(str(i)) for i in range(8)))
    assert texts == [continuation("ab", 8)] * 8
    assert gate.most == 1 and gate.inside == []
    with pytest.raises(QueueFullError, match="not now"):
        await run("bad")
    assert supervisor.num_in_flight == 0
    assert recorder.kinds("bad") == ["arrived", "finished"]


async def test_waiting_at_the_gate_has_an_end(start_supervisor: StartSupervisor) -> None:
    gate = OneAtATime()
    gate.inside.append("somebody who never leaves")
    supervisor = await start_supervisor(hooks=Hooks(gate))
    late = Request(
        request_id="late", prompt_token_ids=[97], sampling=SamplingParams(), timeout_s=0.05
    )
    with pytest.raises(RequestDeadlineError, match=r"not begun after 0\.05 s"):
        await supervisor.submit(late, BUFFER_TOKENS)
    assert supervisor.num_in_flight == 0


async def test_a_gate_survives_the_death_of_a_worker(start_supervisor: StartSupervisor) -> None:
    """What waits at the gate is not given to the next worker before its turn."""
    gate, recorder = OneAtATime(), Recorder()
    supervisor = await start_supervisor("toy:5", hooks=Hooks(gate, [recorder]))
    first = await supervisor.submit(request("ab", "first", max_tokens=60), BUFFER_TOKENS)
    second = asyncio.create_task(
        supervisor.submit(request("ab", "second", max_tokens=60), BUFFER_TOKENS)
    )
    await first.get()
    assert supervisor.pid is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    await collect(first)
    assert text_of(await collect(await second)) == continuation("ab", 60)
    assert recorder.kinds("second") == [
        *("arrived", "let_in", "routed", "admitted", "first_token", "finished")
    ]
