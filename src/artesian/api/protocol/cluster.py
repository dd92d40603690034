"""`/v1/cluster`: the workers of a server."""

from typing import Literal

from pydantic import Field

from artesian.api.protocol.base import ApiRequest, ApiResponse
from artesian.worker.client import MemberState, Role


class Worker(ApiResponse):
    """A worker; another process has the same id and another generation."""

    id: str
    generation: int
    role: Role
    state: MemberState
    pid: int | None
    num_requests: int = Field(description="that the front has given to it")
    num_running: int = Field(description="sequences")
    num_waiting: int = Field(description="sequences in its queue")
    kv_usage: float = Field(description="part of its KV blocks that is in use")
    num_prefills: int = Field(description="prompts that it computes for other workers")
    num_wanted: int = Field(description="prompts that other workers compute for it")
    generation_tokens: int = Field(description="that this process of it has generated")
    silent_s: float = Field(description="seconds since its last sign of life")


class PoolNode(ApiResponse):
    """A memory node of the context cache."""

    number: int
    state: str
    size_bytes: int


class Handovers(ApiResponse):
    """Prompts that one worker computes for another."""

    num_open: int = Field(description="that go on now")
    num_ended: dict[str, int] = Field(description="since the front began, by outcome")
    num_bytes: int = Field(description="of KV, written for others")
    mean_ms: float = Field(description="of the last ones that were done")


class Cluster(ApiResponse):
    """All workers at one moment."""

    object: Literal["cluster"] = "cluster"
    name: str = Field(description="empty: one worker, which is always there")
    front_generation: int = Field(description="how many fronts there have been")
    front_pid: int = Field(description="of the process that answers")
    num_waiting: int = Field(description="requests that no worker has yet")
    num_queued: int = Field(description="sequences that the front holds back until their turn")
    offload_ratio: float = Field(
        description="part of the decoding requests whose KV is with a peer, 0 to 1"
    )
    handovers: Handovers
    workers: list[Worker]
    pool: str | None = Field(description="address of the context cache's memory pool")
    pool_nodes: list[PoolNode]
    pool_used_bytes: int
    pool_capacity_bytes: int


class NewWorker(ApiRequest):
    """One more worker."""

    role: Role


class NewRole(ApiRequest):
    """What a worker should do."""

    role: Role


class WorkerChanged(ApiResponse):
    """The worker that a change is about."""

    object: Literal["cluster.worker"] = "cluster.worker"
    id: str
