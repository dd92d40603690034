"""A place whose process is replaced; the processes are real, and tiny."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest

from artesian.cluster import child as child_module
from artesian.cluster.child import MAX_FAILED_STARTS, Child
from artesian.worker.process import ChildProcess
from tests.worker.test_supervisor import alive, until


class Script(ChildProcess):
    """A child that runs some lines of Python."""

    def __init__(self, text: str) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE)
        self.pid = self._process.pid


SLEEP = "import time; time.sleep(60)"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "BACKOFF_START_S", 0.01)
    monkeypatch.setattr(child_module, "BACKOFF_MAX_S", 0.05)
    monkeypatch.setattr(child_module, "FIRST_SIGN_S", 0.0)


def make(text: str, silence_s: float = 30.0, step_s: float = 30.0) -> tuple[Child, list[str]]:
    changes: list[str] = []

    def note(child: Child) -> None:
        changes.append("ends" if child.process is None else "ready" if child.is_ready else "starts")

    return Child("x", lambda generation: Script(text), note, silence_s, step_s), changes


def is_running(child: Child, generation: int) -> bool:
    return child.generation == generation and child.process is not None


async def running(child: Child, may_retry: Callable[[], bool] = lambda: True) -> asyncio.Task[None]:
    task = asyncio.create_task(child.keep(may_retry))
    await until(lambda: child.process is not None)
    return task


async def test_one_that_dies_is_replaced() -> None:
    child, changes = make(SLEEP)
    task = await running(child)
    for generation in (1, 2, 3):
        await until(partial(is_running, child, generation))
        child.pulse(generation, True)
        assert child.is_ready and child.process is not None
        os.kill(child.process.pid, signal.SIGKILL)
        await until(partial(is_running, child, generation + 1))
        assert "SIGKILL" in child.cause
    assert child.num_restarts == 3
    await child.stop(lambda: None, 0.0)
    await task
    assert changes[:4] == ["starts", "ready", "ends", "starts"] and changes[-1] == "ends"
    assert child.process is None


async def test_one_that_never_gets_ready_is_given_up() -> None:
    child, _ = make("raise SystemExit(7)")
    await asyncio.wait_for(child.keep(lambda: True), 20)
    assert child.has_failed and child.generation == MAX_FAILED_STARTS
    assert child.cause == "exited with status 7"
    once, _ = make("raise SystemExit(7)")
    await asyncio.wait_for(once.keep(lambda: False), 20)
    assert once.has_failed and once.generation == 1


async def test_its_last_words_are_the_cause() -> None:
    child, _ = make(SLEEP)
    task = await running(child, lambda: False)
    child.say_last(1, "no such model")
    child.say_last(2, "of another process")
    child.kill()
    await asyncio.wait_for(task, 10)
    assert child.cause == "stopped: no such model"


@pytest.mark.parametrize("number", [None, signal.SIGSTOP])
async def test_one_that_is_silent_is_ended(number: signal.Signals | None) -> None:
    child, _ = make(SLEEP, silence_s=0.3)
    task = await running(child, lambda: False)
    assert child.process is not None
    pid = child.process.pid
    if number is not None:
        os.kill(pid, number)
    await asyncio.wait_for(task, 10)
    assert "no sign of life" in child.cause and not alive(pid)


async def test_one_that_is_stuck_is_ended() -> None:
    child, _ = make(SLEEP, step_s=1.0)
    task = await running(child, lambda: False)
    child.pulse(1, False, step_s=2.0)
    await asyncio.wait_for(task, 10)
    assert "stuck in one step for 2 s" in child.cause


async def test_signs_of_a_process_that_is_gone_are_ignored() -> None:
    child, _ = make(SLEEP)
    task = await running(child)
    child.pulse(0, True)
    child.pulse(2, True)
    assert not child.is_ready
    await child.stop(lambda: None, 0.0)
    child.pulse(1, True)
    await task
    assert not child.is_ready


async def test_it_is_asked_before_it_is_ended() -> None:
    child, _ = make(SLEEP)
    task = await running(child)
    await child.stop(lambda: child.send_signal(signal.SIGTERM), 10.0)
    await task
    assert child.cause == "was killed by SIGTERM"


async def test_one_that_cannot_be_started() -> None:
    def refuse(generation: int) -> ChildProcess:
        raise OSError("no memory")

    child = Child("x", refuse, lambda child: None, 30.0, 30.0)
    await asyncio.wait_for(child.keep(lambda: True), 10)
    assert child.has_failed and child.cause == "could not be started: no memory"
