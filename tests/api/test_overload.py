"""More requests than the server can answer: who is served, who is refused, and when to return."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

import httpx

from tests.api.conftest import StartServer, until

COMPLETIONS = "/v1/completions"
# 8 sequences of 40 steps of 10 ms each: 20 requests per second at most.
SETTINGS = {"max_num_seqs": 8, "max_queue_len": 64}
NUM_TOKENS = 40


@dataclass
class Outcome:
    status: int
    ttft_s: float | None = None
    retry_after_s: int = 0
    code: str = ""


async def ask(client: httpx.AsyncClient, key: str = "", priority: int = 0) -> Outcome:
    body = {"prompt": "abc", "max_tokens": NUM_TOKENS, "stream": True, "priority": priority}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    started = time.monotonic()
    async with client.stream("POST", COMPLETIONS, json=body, headers=headers) as response:
        if response.status_code != 200:
            await response.aread()
            code = response.json()["error"]["code"]
            retry = int(response.headers.get("retry-after", 0))
            return Outcome(response.status_code, None, retry, code)
        ttft_s = None
        async for line in response.aiter_lines():
            if line.startswith("data: {") and ttft_s is None:
                ttft_s = time.monotonic() - started
    return Outcome(200, ttft_s)


async def open_loop(url: str, per_s: float, seconds: float) -> list[Outcome]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        tasks = []
        started = time.monotonic()
        for number in range(round(per_s * seconds)):
            await asyncio.sleep(max(0.0, started + number / per_s - time.monotonic()))
            tasks.append(asyncio.create_task(ask(client)))
        return await asyncio.gather(*tasks)


async def test_what_would_be_late_is_refused(start_server: StartServer) -> None:
    """That goodput stays is shown on a virtual clock, in tests/cluster/test_queue.py."""
    server = start_server("toy:10", ttft_slo_ms=600, **SETTINGS)
    await open_loop(server.url, 10, 1.5)  # lets it learn
    outcomes = await open_loop(server.url, 100, 3)
    answered = [o for o in outcomes if o.status == 200]
    refused = [o for o in outcomes if o.status != 200]
    assert answered and {(o.status, o.code) for o in refused} == {(429, "ttft_slo")}
    assert all(1 <= o.retry_after_s <= 20 for o in refused)
    text = server.http.get("/metrics").text
    assert f'artesian_requests_refused_total{{reason="ttft_slo"}} {len(refused)}.0' in text
    assert 'artesian_slo_requests_total{result="met",slo="ttft"}' in text
    assert server.metric("artesian_requests_admitted_total") >= len(answered)
    until(lambda: server.metric("artesian_num_requests_running") == 0)


async def test_without_limits_of_time_only_the_queue_bounds(start_server: StartServer) -> None:
    server = start_server("toy:10", **SETTINGS)
    await open_loop(server.url, 20, 1)
    outcomes = await open_loop(server.url, 400, 1)
    statuses = Counter(o.status for o in outcomes)
    assert set(statuses) == {200, 429} and statuses[200] >= 72
    # 64 wait and 20 end per second at most: there is room again after 3 seconds or later.
    refused = [o.retry_after_s for o in outcomes if o.status == 429]
    assert all(1 <= seconds <= 60 for seconds in refused) and max(refused) >= 2


async def test_keys_take_turns_and_weights_are_kept(start_server: StartServer) -> None:
    """How exactly is shown on a virtual clock as well; here that the settings arrive."""
    server = start_server(
        "toy:10", api_key="a,b", api_key_weights="a=3", max_num_seqs=2, max_queue_len=64
    )
    limits = httpx.Limits(max_connections=None)
    order: list[str] = []
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:

        async def one(key: str) -> None:
            assert (await ask(client, key)).status == 200
            order.append(key)

        calls = [one("a") for _ in range(24)] + [one("b") for _ in range(24)]
        await asyncio.gather(*calls)
    assert 14 <= order[:24].count("a") <= 22


async def reaches(client: httpx.AsyncClient, what: str, count: int) -> None:
    """Waits until so many requests run, or wait in the front and at the worker."""
    deadline = time.monotonic() + 15
    line = f"artesian_num_requests_{what} {count}.0\n"
    while line not in (await client.get("/metrics")).text:
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


async def test_who_leaves_the_queue_takes_nothing(start_server: StartServer) -> None:
    server = start_server("toy:20", api_key="a,b", max_num_seqs=1, max_queue_len=8)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        first = asyncio.create_task(ask(client, "a"))
        await reaches(client, "running", 1)
        leaving = [asyncio.create_task(ask(client, "a")) for _ in range(6)]
        await reaches(client, "waiting", 6)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        assert (await first).status == 200
        assert (await ask(client, "b")).status == 200
    assert server.metric("artesian_requests_admitted_total") <= 4
    until(lambda: server.metric("artesian_num_requests_running") == 0)


async def test_a_call_that_waits_too_long_ends(start_server: StartServer) -> None:
    server = start_server(
        "toy:20", api_key="a,b", max_num_seqs=1, max_queue_len=8, request_timeout_s=0.6
    )
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        outcomes = await asyncio.gather(*(ask(client, "a") for _ in range(5)))
    assert {o.status for o in outcomes} == {200, 504}


async def test_waiting_ends_with_the_server(start_server: StartServer) -> None:
    server = start_server("toy:20", api_key="a,b", max_num_seqs=1, drain_timeout_s=0.2)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        tasks = [asyncio.create_task(ask(client, "a")) for _ in range(5)]
        await asyncio.sleep(0.3)
        assert await asyncio.to_thread(server.stop) == 0
        outcomes = await asyncio.gather(*tasks)
    assert {o.status for o in outcomes} <= {200, 503} and outcomes[-1].status == 503
