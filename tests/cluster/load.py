"""Clients of a cluster: each streams an answer and checks every token of it."""

import asyncio
import json
import random
from dataclasses import dataclass

import httpx

from tests.worker.toy import continuation

MAX_ATTEMPTS = 20
RETRY_DELAY_S = 0.2
NUM_TOKENS = 120


@dataclass
class Outcome:
    """What a client has seen.

    Attributes:
        troubles: why it was tried again, each time: connections were lost, or no server was there.
    """

    text: str
    expected: str
    num_tokens: int
    troubles: list[str]

    @property
    def is_right(self) -> bool:
        """Every token, once."""
        return self.text == self.expected and self.num_tokens == NUM_TOKENS


async def run_load(url: str, num_requests: int, seed: int) -> list[Outcome]:
    """All requests at once; clients try again when their connection is lost, and only then."""
    rng = random.Random(seed)
    prompts = [
        "x" * rng.choice([0, 0, 40, 400]) + rng.choice("abcdefgh") for _ in range(num_requests)
    ]
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        return await asyncio.gather(*(_run(client, prompt) for prompt in prompts))


async def _run(client: httpx.AsyncClient, prompt: str) -> Outcome:
    troubles: list[str] = []
    for _ in range(MAX_ATTEMPTS):
        try:
            text, num_tokens = await _stream(client, prompt)
        except (httpx.TransportError, ConnectionError) as error:
            troubles.append(repr(error))
            await asyncio.sleep(RETRY_DELAY_S)
            continue
        return Outcome(text, continuation(prompt, NUM_TOKENS), num_tokens, troubles)
    raise AssertionError(f"no answer after {MAX_ATTEMPTS} attempts")


async def _stream(client: httpx.AsyncClient, prompt: str) -> tuple[str, int]:
    body = {
        "prompt": prompt,
        "max_tokens": NUM_TOKENS,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    text, num_tokens = "", -1
    async with client.stream("POST", "/v1/completions", json=body) as response:
        if response.status_code == 503:
            raise ConnectionError((await response.aread()).decode())
        assert response.status_code == 200, (await response.aread()).decode()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            assert "error" not in event, event
            text += "".join(choice["text"] for choice in event["choices"])
            if event.get("usage"):
                num_tokens = event["usage"]["completion_tokens"]
    if num_tokens < 0:
        raise ConnectionError("the stream broke off")
    return text, num_tokens
