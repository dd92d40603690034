"""A cluster with a real model: the same answers as one worker, whatever is lost."""

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import RunningServer, launch, until
from tests.cluster.test_keeper import Cluster, start

pytest.importorskip("artesian._core", reason="the native module is not built")

PROMPTS = ["Once upon a time " * 20, "The history of wells begins " * 30, "In the year 1900"]
# Of the file of a memory node; see crates/bus/src/shm/node.rs.
PAGE_BYTES, DEAD_WORD_OFFSET = 4096, 16
KEEP_SIZE, PUNCH_HOLE = 1, 2
SETTINGS: dict[str, Any] = {"max_model_len": 1024, "kv_cache_memory_bytes": 1 << 27}


def answer(server: RunningServer, prompt: str, num_tokens: int = 24) -> str:
    body = {"prompt": prompt, "max_tokens": num_tokens, "temperature": 0}
    response = server.http.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    text: str = response.json()["choices"][0]["text"]
    return text


def lose_node(pool: str, node: int) -> None:
    """As the bus kills a node: its word for that is set, then its memory is given back."""
    path = f"/dev/shm/artesian.{os.geteuid()}.{pool}.node{node}"
    with open(path, "r+b") as file:  # noqa: PTH123
        size = os.fstat(file.fileno()).st_size
        os.pwrite(file.fileno(), (1).to_bytes(8, "little"), size - PAGE_BYTES + DEAD_WORD_OFFSET)
        empty = ctypes.CDLL(None, use_errno=True).fallocate
        empty.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
        assert empty(file.fileno(), KEEP_SIZE | PUNCH_HOLE, 0, size - PAGE_BYTES) == 0


@pytest.fixture(scope="module")
def expected(smollm2_path: Path) -> list[str]:
    with ExitStack() as stack:
        server = launch(stack, str(smollm2_path), num_threads=1, **SETTINGS)
        return [answer(server, prompt) for prompt in PROMPTS]


@pytest.fixture
def cluster(smollm2_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield start(
            stack,
            str(smollm2_path),
            prefill=1,
            decode=2,
            memory_nodes=2,
            pin_workers=True,
            worker_heartbeat_timeout_s=5,
            **SETTINGS,
        )


@pytest.mark.timeout(300)
def test_answers_are_those_of_one_worker(cluster: Cluster, expected: list[str]) -> None:
    server = cluster.server
    for _ in range(2):
        assert [answer(server, prompt) for prompt in PROMPTS] == expected
    used = cluster.status()["pool_used_bytes"]
    assert used > 0, "prompts are kept in the pool"
    os.kill(cluster.pids()["w2"], signal.SIGKILL)
    assert [answer(server, prompt) for prompt in PROMPTS] == expected
    until(lambda: cluster.workers()["w2"]["state"] == "ready", 60)
    assert [answer(server, prompt) for prompt in PROMPTS] == expected
    assert server.stop() == 0
    assert cluster.leftovers() == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("node", [1, 0])
def test_a_lost_memory_node_costs_only_what_it_held(
    cluster: Cluster, expected: list[str], node: int
) -> None:
    server = cluster.server
    assert [answer(server, prompt) for prompt in PROMPTS] == expected
    pids = cluster.pids()
    lose_node(f"{cluster.name}-pool", node)
    for _ in range(2):
        assert [answer(server, prompt) for prompt in PROMPTS] == expected
    # A worker that has cached nothing itself asks the pool.
    os.kill(pids["w3"], signal.SIGKILL)
    until(lambda: cluster.workers()["w3"]["generation"] == 2, 60)
    until(lambda: cluster.workers()["w3"]["state"] == "ready", 60)
    assert [answer(server, prompt) for prompt in PROMPTS] == expected
    assert {i: pid for i, pid in cluster.pids().items() if i != "w3"} == {
        i: pid for i, pid in pids.items() if i != "w3"
    }
    assert server.stop() == 0
    assert cluster.leftovers() == []
