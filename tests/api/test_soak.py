"""Nothing is kept for ever: memory stays flat over thousands of requests of every kind."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import StartServer, until

NUM_REQUESTS = 2_000
NUM_CLIENTS = 16
MAX_GROWTH_BYTES = 8 << 20

BODIES: list[dict[str, Any]] = [
    {"prompt": "abc", "max_tokens": 4},
    {"prompt": "abc", "max_tokens": 4, "stream": True},
    {"prompt": ["abc", "xyz"], "n": 2, "max_tokens": 3, "logprobs": 3, "echo": True},
    {"prompt": "a b c d " * 5_000},
    {"prompt": "abc", "temperature": "hot"},
    {"prompt": "!invalid"},
    {"prompt": "!fail", "stream": True},
]


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no resident memory")


async def run_requests(url: str, num_requests: int) -> None:
    numbers = iter(range(num_requests))
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:

        async def run_client() -> None:
            for number in numbers:
                if number % 10 == 0:  # goes away in the middle
                    body = {"prompt": "abc", "max_tokens": 500, "stream": True}
                    async with client.stream("POST", "/v1/completions", json=body) as stream:
                        await anext(stream.aiter_bytes())
                else:
                    body = BODIES[number % len(BODIES)]
                    await client.post("/v1/completions", json=body)

        await asyncio.gather(*(run_client() for _ in range(NUM_CLIENTS)))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("model", ["toy:1", "smollm2"])
async def test_memory_is_flat(
    start_server: StartServer, model: str, request: pytest.FixtureRequest
) -> None:
    path = str(request.getfixturevalue("smollm2_path")) if model == "smollm2" else model
    server = start_server(path, max_num_seqs=32, max_model_len=512, kv_cache_memory_bytes=1 << 28)
    pids = {"front": server.process.pid, "worker": server.worker_pid()}
    await run_requests(server.url, NUM_REQUESTS // 2)
    before = {name: resident_bytes(pid) for name, pid in pids.items()}
    await run_requests(server.url, NUM_REQUESTS)
    growth = {name: resident_bytes(pid) - before[name] for name, pid in pids.items()}
    print(f"resident memory grew by {growth} bytes over {NUM_REQUESTS} requests")
    assert max(growth.values()) < MAX_GROWTH_BYTES, growth
    until(lambda: server.metric("artesian_num_requests_running") == 0)
    assert server.metric("artesian_kv_cache_usage_perc") == 0
    assert server.metric("artesian_worker_restarts_total") == 0
