"""`/v1/cluster`: who the workers are; from this host they can be changed."""

import asyncio
import contextlib
import ipaddress
import os
import time
from typing import Annotated

from fastapi import APIRouter, Path, Request

from artesian.api.errors import ApiError
from artesian.api.protocol.cluster import (
    Cluster,
    Handovers,
    NewRole,
    NewWorker,
    PoolNode,
    Worker,
    WorkerChanged,
)
from artesian.api.routes import errors
from artesian.api.state import ServerState, State
from artesian.cluster.base import AddWorker, Change, ClusterError, Drain, RemoveWorker, SetRole
from artesian.cluster.fleet import Fleet
from artesian.pool import PoolError, PoolStats, pool_stats
from artesian.worker.client import MemberStatus

router = APIRouter()

WorkerId = Annotated[str, Path(pattern="^w[0-9]{1,9}$")]
ERRORS = errors(400, 401, 403, 409, 503)
BODY_ERRORS = errors(400, 401, 403, 408, 409, 413, 503)
POLL_INTERVAL_S = 0.05


@router.get("/v1/cluster", responses=errors(401, 503))
async def show_cluster(state: State) -> Cluster:
    """The workers, what they do, and the memory nodes."""
    status = state.engine.status()
    pool = None if status.pool is None else await asyncio.to_thread(_look, status.pool)
    return Cluster(
        name=status.name,
        front_generation=status.front_generation,
        front_pid=os.getpid(),
        num_waiting=status.num_waiting,
        num_queued=state.queue.num_waiting,
        offload_ratio=state.transfers.offload_ratio(),
        handovers=Handovers(
            num_open=state.transfers.num_open,
            num_ended=state.transfers.num_ended,
            num_bytes=state.transfers.num_bytes,
            mean_ms=round(state.transfers.mean_ms, 3),
        ),
        workers=[_worker(member) for member in status.members],
        pool=status.pool,
        pool_nodes=[
            PoolNode(number=node.number, state=node.state, size_bytes=node.size_bytes)
            for node in (() if pool is None else pool.nodes)
        ],
        pool_used_bytes=0 if pool is None else pool.capacity_bytes - pool.free_bytes,
        pool_capacity_bytes=0 if pool is None else pool.capacity_bytes,
    )


@router.post("/v1/cluster/workers", responses=BODY_ERRORS)
async def add_worker(body: NewWorker, request: Request, state: State) -> WorkerChanged:
    """Starts one more worker."""
    return await _change(request, state, AddWorker(body.role))


@router.post("/v1/cluster/workers/{worker_id}/role", responses=BODY_ERRORS)
async def set_role(
    worker_id: WorkerId, body: NewRole, request: Request, state: State
) -> WorkerChanged:
    """Gives a worker another role; one that was drained gets new work again."""
    return await _change(request, state, SetRole(worker_id, body.role))


@router.post("/v1/cluster/workers/{worker_id}/drain", responses=ERRORS)
async def drain_worker(worker_id: WorkerId, request: Request, state: State) -> WorkerChanged:
    """Gives a worker nothing new; it finishes what it has, and stays."""
    return await _change(request, state, Drain(worker_id))


@router.delete("/v1/cluster/workers/{worker_id}", responses=ERRORS)
async def remove_worker(worker_id: WorkerId, request: Request, state: State) -> WorkerChanged:
    """Ends a worker once it has finished what it has; what takes too long goes on elsewhere."""
    await _change(request, state, Drain(worker_id))
    until = time.monotonic() + state.config.drain_timeout_s
    while _is_busy(state, worker_id) and time.monotonic() < until:
        await asyncio.sleep(POLL_INTERVAL_S)
    return await _change(request, state, RemoveWorker(worker_id))


async def _change(request: Request, state: ServerState, change: Change) -> WorkerChanged:
    host = "" if request.client is None else request.client.host
    if not is_loopback(host):
        raise ApiError(403, "workers are changed from the server's own host", code="not_local")
    if not isinstance(state.engine, Fleet):
        raise ApiError(
            409,
            "this server has one worker, which is always there; start it with --both or --decode",
            code="no_cluster",
        )
    try:
        return WorkerChanged(id=await state.engine.change(change))
    except ClusterError as error:
        raise ApiError(409, str(error), code="cluster_error") from None


def is_loopback(host: str) -> bool:
    """Whether a client's address is of this host."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback
    return False


def _is_busy(state: ServerState, worker_id: str) -> bool:
    return any(
        member.num_in_flight or member.num_prefills or member.num_wanted
        for member in state.engine.status().members
        if member.worker_id == worker_id and member.state != "dead"
    )


def _look(pool: str) -> PoolStats | None:
    """The pool as it is; nothing is wrong with the cluster if it cannot be seen."""
    try:
        return pool_stats(pool)
    except PoolError:
        return None


def _worker(member: MemberStatus) -> Worker:
    return Worker(
        id=member.worker_id,
        generation=member.generation,
        role=member.role,
        state=member.state,
        pid=member.pid,
        num_requests=member.num_in_flight,
        num_running=member.stats.num_requests_running,
        num_waiting=member.stats.num_requests_waiting,
        kv_usage=member.stats.kv_cache_usage_ratio,
        num_prefills=member.num_prefills,
        num_wanted=member.num_wanted,
        generation_tokens=member.stats.generation_tokens,
        silent_s=member.silent_s,
    )
