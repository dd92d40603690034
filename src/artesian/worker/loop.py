"""The worker process: starts the engine and runs it step by step.

Between two steps it takes commands; with nothing to do it sleeps until one comes. It never outlives
its parent, the front or the keeper of a cluster: stdin stays open as long as that lives, and its
end ends the worker. In a cluster it outlives fronts: what one wanted is given up when the next one
attaches.
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
from artesian.engine.base import Engine, InvalidRequestError, QueueFullError, RequestOutput
from artesian.engine.handover import PrefillDone
from artesian.worker.channel import ChannelError, WorkerChannel
from artesian.worker.life import LifeSigns, describe
from artesian.worker.messages import (
    Abort,
    Admitted,
    Answer,
    Ask,
    Attach,
    CancelPrefill,
    Command,
    EndPeer,
    EndPrefill,
    Fatal,
    Outputs,
    Prefill,
    Prefilled,
    PrefillUnwanted,
    PrefillWanted,
    Ready,
    Rejected,
    SetPeers,
    Shutdown,
    Stats,
    Submit,
    WorkerSpec,
)

logger = logging.getLogger(__name__)

STATS_INTERVAL_S = 0.25
# An engine without work is stepped so often: other servers may have deleted what it keeps.
IDLE_STEP_INTERVAL_S = 1.0
EXIT_FATAL = 1


class WorkerLoop:
    """Feeds commands to an engine and its outputs to the front."""

    def __init__(self, engine: Engine, channel: WorkerChannel, life: LifeSigns) -> None:
        self._engine = engine
        self._channel = channel
        self._life = life
        self._next_stats = 0.0
        # What the front wants: completions that are left of each request, and peers' prompts.
        self._num_left: dict[str, int] = {}
        self._jobs: set[str] = set()

    def run(self) -> None:
        """Returns after `Shutdown`. An exception from `step` is a defect and ends the worker."""
        self._life.is_ready = True
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
            self._num_left.pop(command.request_id, None)
            self._engine.abort(command.request_id)
        elif isinstance(command, Ask):
            self._answer(command)
        elif isinstance(command, Attach):
            self._attach(command)
        elif not isinstance(command, Shutdown):
            self._hand_over(command)

    def _attach(self, attach: Attach) -> None:
        """A new front: it knows nothing of what the one before it wanted."""
        for request_id in self._num_left:
            self._engine.abort(request_id)
        self._num_left.clear()
        handover = self._engine.handover
        if handover is not None:
            handover.set_peers(0)
            for job_id in self._jobs:
                handover.cancel_job(job_id)
        self._channel.attach(attach)
        self._life.attach(attach.report_endpoint)
        self._channel.send(Ready(self._engine.info()))
        self._channel.send(Stats(self._engine.stats()))

    def _hand_over(
        self, command: Prefill | CancelPrefill | EndPrefill | SetPeers | EndPeer
    ) -> None:
        handover = self._engine.handover
        if handover is None:
            if isinstance(command, Prefill):
                error = "this worker has no memory that others could write to"
                done = PrefillDone(job_id=command.job.job_id, outcome="refused", error=error)
                self._channel.send(Prefilled(done))
        elif isinstance(command, Prefill):
            self._jobs.add(command.job.job_id)
            handover.add_job(command.job)
        elif isinstance(command, CancelPrefill):
            handover.cancel_job(command.job_id, command.token_ids)
        elif isinstance(command, EndPrefill):
            handover.end_job(command.done)
        elif isinstance(command, SetPeers):
            handover.set_peers(command.num_prefill)
        else:
            handover.end_peer(command.region)

    def _tell_handovers(self) -> None:
        handover = self._engine.handover
        if handover is None:
            return
        # What a peer lets go may be what the next job begins with.
        for unwanted in handover.take_unwanted():
            self._channel.send(PrefillUnwanted(unwanted.job_id, unwanted.token_ids))
        for job in handover.take_wanted():
            self._channel.send(PrefillWanted(job))
        for done in handover.take_done():
            self._jobs.discard(done.job_id)
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
            self._num_left[request_id] = command.request.sampling.n
            self._channel.send(Admitted(request_id))

    def _step(self) -> None:
        self._life.start_step()
        outputs = self._engine.step()
        self._life.end_step()
        if outputs:
            self._note_ends(outputs)
            self._channel.send(Outputs(outputs))
        self._tell_handovers()
        now = time.monotonic()
        if now >= self._next_stats:
            self._next_stats = now + STATS_INTERVAL_S
            self._channel.send(Stats(self._engine.stats()))

    def _note_ends(self, outputs: list[RequestOutput]) -> None:
        for output in outputs:
            if output.finish_reason is not None and output.request_id in self._num_left:
                self._num_left[output.request_id] -= 1
                if not self._num_left[output.request_id]:
                    del self._num_left[output.request_id]


def main() -> int:
    """Runs a worker until it is told to end; exit status 1 after a `Fatal` report."""
    # A terminal's Ctrl-C and a service manager's SIGTERM reach the whole group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    spec = msgspec.json.decode(_read_line(), type=WorkerSpec)
    if spec.cpus:
        os.sched_setaffinity(0, spec.cpus)
    logging.basicConfig(
        level=spec.log_level.upper(),
        format=f"%(asctime)s {_name(spec)} %(levelname)s %(message)s",
    )
    life = LifeSigns(spec)
    threading.Thread(target=_end_with_parent, args=(spec,), daemon=True).start()
    threading.Thread(target=life.run, daemon=True).start()
    channel = WorkerChannel(spec.report_endpoint, spec.command_endpoint)
    try:
        return _run(spec, channel, life)
    except ChannelError:
        logger.exception("the worker gives up")
        return EXIT_FATAL
    finally:
        channel.close()


def _name(spec: WorkerSpec) -> str:
    """As logs call the worker."""
    return f"{spec.worker_id}.{spec.generation}" if spec.keeper_endpoint else "worker"


def _run(spec: WorkerSpec, channel: WorkerChannel, life: LifeSigns) -> int:
    try:
        engine = _create_engine(spec)
    except Exception as error:
        # A model that cannot be loaded explains itself; anything else is a defect to be traced.
        if not isinstance(error, (OSError, ValueError, MemoryError)):
            logger.exception("the worker cannot start")
        _die(channel, life, error)
        return EXIT_FATAL
    try:
        WorkerLoop(engine, channel, life).run()
        engine.close()
    except ChannelError:
        raise
    except Exception as error:
        logger.exception("the worker cannot go on")
        _die(channel, life, error)
        return EXIT_FATAL
    return 0


def _die(channel: WorkerChannel, life: LifeSigns, error: Exception) -> None:
    """Tells whoever listens why."""
    life.say_last(describe(error))
    channel.send(Fatal(describe(error)))


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


def _end_with_parent(spec: WorkerSpec) -> None:
    """Waits for the end of stdin, which comes with the parent's, then removes its own sockets."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    for endpoint in filter(None, (spec.command_endpoint, spec.report_endpoint)):
        path = Path(endpoint.removeprefix("ipc://"))
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
    os._exit(EXIT_FATAL)
