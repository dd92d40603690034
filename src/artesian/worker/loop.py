"""The worker process: starts the engine and runs it step by step.

Between two steps it takes commands; with nothing to do it sleeps until one comes. It never outlives
the front: stdin stays open as long as the front lives, and its end ends the worker.
"""

import logging
import os
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import cast

import msgspec

from artesian.config.engine import EngineConfig
from artesian.engine.base import Engine, InvalidRequestError, QueueFullError
from artesian.engine.handover import PrefillDone
from artesian.worker.channel import ChannelError, WorkerChannel
from artesian.worker.messages import (
    Abort,
    Admitted,
    Answer,
    Ask,
    CancelPrefill,
    Command,
    EndPrefill,
    Fatal,
    Heartbeat,
    Outputs,
    Prefill,
    Prefilled,
    PrefillUnwanted,
    PrefillWanted,
    Ready,
    Rejected,
    Shutdown,
    Stats,
    Submit,
    WorkerSpec,
)

logger = logging.getLogger(__name__)

HEARTBEAT_INTERVAL_S = 0.5
STATS_INTERVAL_S = 0.25
# An engine without work is stepped so often: other servers may have deleted what it keeps.
IDLE_STEP_INTERVAL_S = 1.0
EXIT_FATAL = 1


class StepClock:
    """When the running step began; written by the loop, read by the heartbeat thread."""

    def __init__(self) -> None:
        self._started: float | None = None

    def start(self) -> None:
        """A step begins."""
        self._started = time.monotonic()

    def stop(self) -> None:
        """The step is over."""
        self._started = None

    def age_s(self) -> float:
        """Seconds since the running step began; 0 between steps."""
        started = self._started
        return 0.0 if started is None else time.monotonic() - started


class WorkerLoop:
    """Feeds commands to an engine and its outputs to the front."""

    def __init__(self, engine: Engine, channel: WorkerChannel, clock: StepClock) -> None:
        self._engine = engine
        self._channel = channel
        self._clock = clock
        self._next_stats = 0.0

    def run(self) -> None:
        """Returns after `Shutdown`. An exception from `step` is a defect and ends the worker."""
        self._channel.send(Ready(self._engine.info()))
        while True:
            idle = not self._engine.has_work()
            if idle:
                self._channel.send(Stats(self._engine.stats()))
            commands = self._channel.receive(IDLE_STEP_INTERVAL_S if idle else 0.0)
            for command in commands:
                if isinstance(command, Shutdown):
                    return
                self._obey(command)
            if self._engine.has_work() or not commands:
                self._step()

    def _obey(self, command: Command) -> None:
        if isinstance(command, Submit):
            self._submit(command)
        elif isinstance(command, Abort):
            self._engine.abort(command.request_id)
        elif isinstance(command, Ask):
            self._answer(command)
        elif isinstance(command, Prefill | CancelPrefill | EndPrefill):
            self._hand_over(command)

    def _hand_over(self, command: Prefill | CancelPrefill | EndPrefill) -> None:
        handover = self._engine.handover
        if handover is None:
            if isinstance(command, Prefill):
                error = "this worker has no memory that others could write to"
                done = PrefillDone(job_id=command.job.job_id, outcome="refused", error=error)
                self._channel.send(Prefilled(done))
        elif isinstance(command, Prefill):
            handover.add_job(command.job)
        elif isinstance(command, CancelPrefill):
            handover.cancel_job(command.job_id)
        else:
            handover.end_job(command.done)

    def _tell_handovers(self) -> None:
        handover = self._engine.handover
        if handover is None:
            return
        for job in handover.take_wanted():
            self._channel.send(PrefillWanted(job))
        for job_id in handover.take_unwanted():
            self._channel.send(PrefillUnwanted(job_id))
        for done in handover.take_done():
            self._channel.send(Prefilled(done))

    def _answer(self, ask: Ask) -> None:
        try:
            reply = Answer(ask.call_id, self._engine.answer(ask.question))
        except Exception as error:
            logger.exception("a question could not be answered: %s", type(ask.question).__name__)
            reply = Answer(ask.call_id, None, describe(error))
        self._channel.send(reply)

    def _submit(self, command: Submit) -> None:
        request_id = command.request.request_id
        try:
            self._engine.add_request(command.request)
        except InvalidRequestError as error:
            self._channel.send(Rejected(request_id, "invalid", str(error)))
        except QueueFullError as error:
            self._channel.send(Rejected(request_id, "queue_full", str(error)))
        except Exception as error:
            logger.exception("request %s could not be queued", request_id)
            self._channel.send(Rejected(request_id, "internal", describe(error)))
        else:
            self._channel.send(Admitted(request_id))

    def _step(self) -> None:
        self._clock.start()
        outputs = self._engine.step()
        self._clock.stop()
        if outputs:
            self._channel.send(Outputs(outputs))
        self._tell_handovers()
        now = time.monotonic()
        if now >= self._next_stats:
            self._next_stats = now + STATS_INTERVAL_S
            self._channel.send(Stats(self._engine.stats()))


def main() -> int:
    """Runs a worker until the front says so; exit status 1 after a `Fatal` report."""
    # A terminal's Ctrl-C and a service manager's SIGTERM reach the whole group; the front decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    spec = msgspec.json.decode(_read_line(), type=WorkerSpec)
    logging.basicConfig(
        level=spec.log_level.upper(), format="%(asctime)s worker %(levelname)s %(message)s"
    )
    clock = StepClock()
    threading.Thread(target=_end_with_front, args=(spec,), daemon=True).start()
    threading.Thread(target=_beat, args=(spec.report_endpoint, clock), daemon=True).start()
    channel = WorkerChannel(spec.report_endpoint, spec.command_endpoint)
    try:
        return _run(spec, channel, clock)
    except ChannelError:
        logger.exception("the worker gives up")
        return EXIT_FATAL
    finally:
        channel.close()


def _run(spec: WorkerSpec, channel: WorkerChannel, clock: StepClock) -> int:
    try:
        engine = _create_engine(spec)
    except Exception as error:
        # A model that cannot be loaded explains itself; anything else is a defect to be traced.
        if not isinstance(error, (OSError, ValueError, MemoryError)):
            logger.exception("the worker cannot start")
        channel.send(Fatal(describe(error)))
        return EXIT_FATAL
    try:
        WorkerLoop(engine, channel, clock).run()
        engine.close()
    except ChannelError:
        raise
    except Exception as error:
        logger.exception("the worker cannot go on")
        channel.send(Fatal(describe(error)))
        return EXIT_FATAL
    return 0


def describe(error: BaseException) -> str:
    """One line for a person; errors of the project's own kind speak for themselves."""
    text = str(error)
    if isinstance(error, (OSError, ValueError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _create_engine(spec: WorkerSpec) -> Engine:
    module_name, _, function_name = spec.engine_factory.partition(":")
    factory = getattr(import_module(module_name), function_name)
    return cast(Engine, factory(EngineConfig.model_validate_json(spec.engine_config)))


def _read_line() -> bytes:
    """The first line of stdin, unbuffered: a blocked buffered reader cannot be left at exit."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            break
        line += byte
    return bytes(line)


def _end_with_front(spec: WorkerSpec) -> None:
    """Waits for the end of stdin, which comes with the front's, then removes its sockets."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    for endpoint in (spec.command_endpoint, spec.report_endpoint):
        path = Path(endpoint.removeprefix("ipc://"))
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
    os._exit(EXIT_FATAL)


def _beat(report_endpoint: str, clock: StepClock) -> None:
    channel = WorkerChannel(report_endpoint)
    while True:
        channel.send(Heartbeat(clock.age_s()))
        time.sleep(HEARTBEAT_INTERVAL_S)
