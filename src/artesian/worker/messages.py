"""What the HTTP front and a worker say to each other: msgpack structs over ZeroMQ."""

from typing import Literal

import msgspec

from artesian.engine.base import EngineInfo, EngineStats, Request, RequestOutput
from artesian.engine.handover import PrefillDone, PrefillJob
from artesian.engine.questions import Question, Reply


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How to start a worker; the front writes it, as one line of JSON, to the worker's stdin.

    Attributes:
        engine_factory: `module:function` that takes an `EngineConfig` and returns an `Engine`.
        engine_config: the `EngineConfig` as JSON.
        command_endpoint: where the worker pulls commands from.
        report_endpoint: where the worker pushes reports to; empty: to fronts that `Attach`.
        worker_id, generation: who it is in a cluster.
        keeper_endpoint: of a cluster, where it gives signs of life; empty: nowhere.
        cpus: that it may use; empty: as its parent.
    """

    engine_factory: str
    engine_config: str
    command_endpoint: str
    report_endpoint: str = ""
    log_level: str = "info"
    worker_id: str = "w1"
    generation: int = 1
    keeper_endpoint: str = ""
    cpus: list[int] = []


class Attach(msgspec.Struct, frozen=True, tag=True):
    """The first word of a front: what the one before it wanted is given up; answered by `Ready`."""

    front_generation: int
    report_endpoint: str


class Submit(msgspec.Struct, frozen=True, tag=True):
    """Queue a request; answered by `Admitted` or `Rejected`."""

    request: Request


class Abort(msgspec.Struct, frozen=True, tag=True):
    """Forget a request; nothing is reported for it any more."""

    request_id: str


class Ask(msgspec.Struct, frozen=True, tag=True):
    """A question; answered by `Answer` with the same `call_id`."""

    call_id: int
    question: Question


class Prefill(msgspec.Struct, frozen=True, tag=True):
    """To a worker that prefills: compute a prompt for another one; answered by `Prefilled`."""

    job: PrefillJob


class CancelPrefill(msgspec.Struct, frozen=True, tag=True):
    """To the same: nobody wants it any more. It is answered all the same, soon.

    Attributes:
        token_ids: prompt and answer, when the KV of a job that is done has stayed with the worker.
    """

    job_id: str
    token_ids: list[int] = []


class EndPrefill(msgspec.Struct, frozen=True, tag=True):
    """To the worker that wanted a prefill: what became of it."""

    done: PrefillDone


class SetPeers(msgspec.Struct, frozen=True, tag=True):
    """So many workers would compute prompts for this one now."""

    num_prefill: int


class EndPeer(msgspec.Struct, frozen=True, tag=True):
    """The process whose memory had this name is dead for certain."""

    region: str


class Shutdown(msgspec.Struct, frozen=True, tag=True):
    """Stop at once; the front has already waited for what it wanted to wait for."""


Command = (
    Attach
    | Submit
    | Abort
    | Ask
    | Prefill
    | CancelPrefill
    | EndPrefill
    | SetPeers
    | EndPeer
    | Shutdown
)


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The engine has started."""

    info: EngineInfo


class Admitted(msgspec.Struct, frozen=True, tag=True):
    """The engine has queued a request."""

    request_id: str


class Rejected(msgspec.Struct, frozen=True, tag=True):
    """The engine has not taken a request: it can never run, must wait, or hit a defect."""

    request_id: str
    kind: Literal["invalid", "queue_full", "internal"]
    message: str


class Outputs(msgspec.Struct, frozen=True, tag=True):
    """What one engine step produced."""

    outputs: list[RequestOutput]


class Answer(msgspec.Struct, frozen=True, tag=True):
    """Answers an `Ask`; with an `error` when a defect showed."""

    call_id: int
    reply: Reply | None
    error: str = ""


class PrefillWanted(msgspec.Struct, frozen=True, tag=True):
    """A worker that decodes wants a prompt computed by another one; answered by `EndPrefill`."""

    job: PrefillJob


class PrefillUnwanted(msgspec.Struct, frozen=True, tag=True):
    """It does not want it any more; answered by `EndPrefill` all the same, unless that has come.

    Attributes:
        token_ids: see `CancelPrefill`.
    """

    job_id: str
    token_ids: list[int] = []


class Prefilled(msgspec.Struct, frozen=True, tag=True):
    """A worker has ended a prefill for another one."""

    done: PrefillDone


class Stats(msgspec.Struct, frozen=True, tag=True):
    """The engine's counts, a few times per second while it works and once when it falls idle."""

    stats: EngineStats


class Heartbeat(msgspec.Struct, frozen=True, tag=True):
    """Sent by a thread of its own; `step_s` is the age of the running step, 0 between steps."""

    step_s: float


class Fatal(msgspec.Struct, frozen=True, tag=True):
    """The last words of a worker that cannot start or go on."""

    message: str


Report = (
    Ready
    | Admitted
    | Rejected
    | Answer
    | Outputs
    | PrefillWanted
    | PrefillUnwanted
    | Prefilled
    | Stats
    | Heartbeat
    | Fatal
)


class Pulse(msgspec.Struct, frozen=True, tag=True):
    """A sign of life for the keeper of a cluster; `step_s` as in `Heartbeat`."""

    worker_id: str
    generation: int
    step_s: float
    is_ready: bool


class LastWords(msgspec.Struct, frozen=True, tag=True):
    """`Fatal`, for the keeper of a cluster."""

    worker_id: str
    generation: int
    message: str
