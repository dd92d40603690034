"""Runs a workload against a server that speaks OpenAI's API."""

import asyncio
import json
import random
import time

import httpx

from artesian.bench.base import RequestTiming, Workload

TIMEOUT = httpx.Timeout(600.0, connect=10.0)
# Common words, most of them one token: the server's usage says how many tokens they really were.
TEXT = """
time year people way day man thing woman life child world school state family student group
country problem hand part place case week company system program question work government
number night point home water room mother area money story fact month lot right study book
eye job word business issue side kind head house service friend father power hour game line
end member law car city community name president team minute idea kid body information back
"""
WORDS = TEXT.split()


async def run_online(
    base_url: str,
    api_key: str | None,
    model: str,
    workload: Workload,
    fields: dict[str, object] | None = None,
) -> tuple[list[RequestTiming], float]:
    """Timings of all requests, and the duration of the run in seconds.

    `fields` go into each request's body. A request starts when it arrives, even if it then waits
    for one of `max_concurrency` places.
    """
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    limits = httpx.Limits(max_connections=workload.max_concurrency)
    places = asyncio.Semaphore(workload.max_concurrency)
    source = random.Random(workload.seed)
    async with httpx.AsyncClient(
        base_url=base_url, headers=headers, timeout=TIMEOUT, limits=limits
    ) as client:
        started_s = time.perf_counter()

        async def ask(arrival_s: float, prompt: str) -> RequestTiming:
            await asyncio.sleep(started_s + arrival_s - time.perf_counter())
            timing = RequestTiming(time.perf_counter())
            body = {
                "model": model,
                "prompt": prompt,
                "max_tokens": workload.output_len_tokens,
                "temperature": 0.0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
                **(fields or {}),
            }
            async with places:
                try:
                    await stream(client, body, timing)
                except httpx.HTTPError as error:
                    timing.error = str(error) or type(error).__name__
            return timing

        timings = await asyncio.gather(
            *(
                ask(arrival_s, " ".join(source.choices(WORDS, k=workload.input_len_tokens)))
                for arrival_s in workload.arrivals_s()
            )
        )
        return timings, time.perf_counter() - started_s


async def stream(client: httpx.AsyncClient, body: dict[str, object], timing: RequestTiming) -> None:
    """Sends one request and books its outputs as they come. Raises `httpx.HTTPError`."""
    async with client.stream("POST", "completions", json=body) as response:
        if response.is_error:
            timing.error = f"HTTP {response.status_code}"
            await response.aread()
            return
        async for line in response.aiter_lines():
            data = line.removeprefix("data:").strip()
            if not line.startswith("data:") or data == "[DONE]":
                continue
            event = json.loads(data)
            if "error" in event:
                timing.error = str(event["error"].get("message", "error"))
                return
            if any(choice.get("text") for choice in event.get("choices") or ()):
                timing.output_s.append(time.perf_counter())
            if usage := event.get("usage"):
                details = usage.get("prompt_tokens_details") or {}
                timing.num_prompt_tokens = usage.get("prompt_tokens", 0)
                timing.num_output_tokens = usage.get("completion_tokens", 0)
                timing.num_cached_tokens = details.get("cached_tokens") or 0
