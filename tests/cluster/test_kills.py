"""Kills of every role under load: every request is answered, with each of its tokens once."""

import asyncio
import os
import random
import signal
from contextlib import ExitStack
from typing import Any

import pytest

from artesian.pool import Pool
from tests.api.conftest import until
from tests.cluster.load import Outcome, run_load
from tests.cluster.test_keeper import Cluster, answers, stack, start
from tests.worker.test_supervisor import alive

__all__ = ["stack"]

NUM_REQUESTS = 120
SEED = 7
SIGNALS = [signal.SIGKILL, signal.SIGSTOP]


def start_mixed(stack: ExitStack, **settings: Any) -> Cluster:
    """All roles; silence is noticed soon, but a busy machine is no silence."""
    roles = {"prefill": 1, "decode": 1, "both": 1, "memory_nodes": 1}
    return start(
        stack, "toy:4", **{**roles, "worker_heartbeat_timeout_s": 4, "max_num_seqs": 48, **settings}
    )


async def run_and_kill(cluster: Cluster, pids: list[int], number: signal.Signals) -> list[Outcome]:
    """Load, and in the middle of it signals to those processes, one after the other."""
    load = asyncio.create_task(run_load(cluster.server.url, NUM_REQUESTS, SEED))
    for pid in pids:
        await asyncio.sleep(0.5)
        os.kill(pid, number)
    return await load


def check_whole(cluster: Cluster) -> None:
    """Everything is there again, and at the end nothing is left."""

    def is_whole() -> bool:
        if not answers(cluster):
            return False
        return all(worker["state"] == "ready" for worker in cluster.workers().values())

    until(is_whole, 30)
    status = cluster.status()
    assert status["num_waiting"] == 0
    for worker in status["workers"]:
        assert (worker["num_requests"], worker["num_prefills"], worker["num_wanted"]) == (0, 0, 0)
    pids = [*cluster.pids().values(), cluster.front_pid()]
    assert cluster.server.stop() == 0
    assert not any(alive(pid) for pid in pids)
    assert cluster.leftovers() == []


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("worker_id", ["w1", "w2", "w3"], ids=["prefill", "decode", "both"])
async def test_a_worker(stack: ExitStack, worker_id: str, number: signal.Signals) -> None:
    cluster = start_mixed(stack)
    pid = cluster.pids()[worker_id]
    outcomes = await run_and_kill(cluster, [pid], number)
    assert [o for o in outcomes if not o.is_right] == []
    assert [o.troubles for o in outcomes if o.troubles] == [], "the front hides it from clients"
    until(lambda: cluster.workers()[worker_id]["generation"] == 2)
    assert not alive(pid)
    check_whole(cluster)


@pytest.mark.parametrize("number", SIGNALS)
async def test_the_front(stack: ExitStack, number: signal.Signals) -> None:
    cluster = start_mixed(stack)
    before = cluster.pids()
    outcomes = await run_and_kill(cluster, [cluster.front_pid()], number)
    assert [o for o in outcomes if not o.is_right] == []
    until(lambda: answers(cluster))
    assert cluster.status()["front_generation"] == 2
    assert cluster.pids() == before, "workers and their caches survive"
    check_whole(cluster)


async def test_all_workers_at_once(stack: ExitStack) -> None:
    cluster = start_mixed(stack)
    load = asyncio.create_task(run_load(cluster.server.url, NUM_REQUESTS, SEED))
    await asyncio.sleep(0.5)
    for pid in cluster.pids().values():
        os.kill(pid, signal.SIGKILL)
    outcomes = await load
    assert [o for o in outcomes if not o.is_right] == []
    assert [o.troubles for o in outcomes if o.troubles] == []
    check_whole(cluster)


async def test_a_memory_node(stack: ExitStack) -> None:
    """What is lost with the pool is missed, and computed again."""
    cluster = start_mixed(stack, memory_nodes=2)
    load = asyncio.create_task(run_load(cluster.server.url, NUM_REQUESTS, SEED))
    await asyncio.sleep(0.5)
    Pool.remove(f"{cluster.name}-pool")
    outcomes = await load
    assert [o for o in outcomes if not o.is_right] == []
    check_whole(cluster)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_random_kills_for_long(stack: ExitStack) -> None:
    """Of anything but the keeper, in any order, while requests come and go."""
    cluster = start_mixed(stack, decode=2)
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    rng = random.Random(seed)
    for round_ in range(40):
        load = asyncio.create_task(run_load(cluster.server.url, NUM_REQUESTS, seed + round_))
        await asyncio.sleep(rng.random())
        if answers(cluster):
            pids = [*cluster.pids().values(), cluster.front_pid()]
            os.kill(rng.choice(pids), rng.choice(SIGNALS))
        assert [o for o in await load if not o.is_right] == []
    check_whole(cluster)
