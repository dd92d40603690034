"""The steps of requests' lives are told."""

import os
import signal

from artesian.worker.hooks import Hooks, RequestEvent
from tests.worker.conftest import StartSupervisor
from tests.worker.test_supervisor import BUFFER_TOKENS, collect, request


class Recorder:
    def __init__(self) -> None:
        self.events: list[RequestEvent] = []

    def note(self, event: RequestEvent) -> None:
        self.events.append(event)

    def kinds(self, request_id: str) -> list[str]:
        return [event.kind for event in self.events if event.request_id == request_id]


class Broken:
    def note(self, event: RequestEvent) -> None:
        raise RuntimeError("no room for events")


async def test_the_steps_of_a_life_are_told_in_order(start_supervisor: StartSupervisor) -> None:
    recorder = Recorder()
    supervisor = await start_supervisor(hooks=Hooks(observers=[Broken(), recorder]))
    await collect(await supervisor.submit(request("ab"), BUFFER_TOKENS))
    assert recorder.kinds("r") == [*("arrived", "routed", "admitted", "first_token", "finished")]
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
