"""What keeper and front say to each other: who is in the cluster, and what should change."""

import msgspec

from artesian.worker.client import Role
from artesian.worker.messages import LastWords, Pulse


class MemberRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as the keeper knows it.

    Attributes:
        worker_id: its place; processes in it come and go, each with a `generation` of its own.
        is_draining: it gets nothing new.
        pid: of its process; None: that has ended, or none is there yet.
        cause: why the last process ended.
        region: name of its shared memory.
    """

    worker_id: str
    generation: int
    role: Role
    is_draining: bool = False
    pid: int | None = None
    command_endpoint: str = ""
    region: str = ""
    cause: str = ""

    @property
    def name(self) -> str:
        """Names this process among all workers of all times."""
        return f"{self.worker_id}.{self.generation}"


class Membership(msgspec.Struct, frozen=True, tag=True):
    """From the keeper, whenever something changes: all members. One that is missing is gone.

    `pool` is the address of the context cache, if the cluster made it.
    """

    members: list[MemberRecord]
    num_restarts: int = 0
    pool: str | None = None


class Ended(msgspec.Struct, frozen=True, tag=True):
    """From the keeper: there are no workers any more, and there will be none."""

    cause: str


class Drain(msgspec.Struct, frozen=True, tag=True):
    """A worker gets nothing new, and finishes what it has."""

    worker_id: str


class SetRole(msgspec.Struct, frozen=True, tag=True):
    """A worker gets another role; one that was draining gets new work again."""

    worker_id: str
    role: Role


class AddWorker(msgspec.Struct, frozen=True, tag=True):
    """One more worker."""

    role: Role


class RemoveWorker(msgspec.Struct, frozen=True, tag=True):
    """A worker ends, with all that it has, and is not replaced."""

    worker_id: str


Change = Drain | SetRole | AddWorker | RemoveWorker


class ChangeAsked(msgspec.Struct, frozen=True, tag=True):
    """From the front; answered by `ChangeDone` with the same `call_id`."""

    call_id: int
    change: Change


class ChangeDone(msgspec.Struct, frozen=True, tag=True):
    """From the keeper, behind the `Membership` that shows it; `error` says why it is not done.

    `worker_id` is of the worker that it was about.
    """

    call_id: int
    worker_id: str = ""
    error: str = ""


class FrontPulse(msgspec.Struct, frozen=True, tag=True):
    """A sign of life of a front; `is_ready`: it serves."""

    generation: int
    is_ready: bool


class FrontFailed(msgspec.Struct, frozen=True, tag=True):
    """A front cannot serve, and no other could."""

    generation: int
    message: str


ToFront = Membership | Ended | ChangeDone
ToKeeper = Pulse | LastWords | ChangeAsked | FrontPulse | FrontFailed


class FrontSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How to start a front; the keeper writes it, as one line of JSON, to the front's stdin.

    Attributes:
        engine_config, server_config: as JSON.
        tokenizer_factory: `module:function` from both to a tokenizer; empty: the checkpoint's.
        listener: number of the listening socket, which is inherited.
        url: where clients find it.
        directory: where sockets are made.
        keeper_endpoint, inbox_endpoint: to and from the keeper.
        cluster: its name.
    """

    engine_config: str
    server_config: str
    tokenizer_factory: str
    listener: int
    url: str
    generation: int
    directory: str
    keeper_endpoint: str
    inbox_endpoint: str
    cluster: str


class ClusterError(ValueError):
    """A cluster that cannot be, or a change that cannot be made; the message says why."""
