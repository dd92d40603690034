"""The whole server on a real model: what only the real engine can get wrong."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import RunningServer, launch, until

pytest.importorskip("artesian._core", reason="the native module is not built")

QUESTION: list[Any] = [
    {"role": "user", "content": "What is the capital of France? Answer in one sentence."}
]
STORY: list[Any] = [{"role": "user", "content": "Tell me about the history of wells. " * 6}]


@pytest.fixture(scope="module")
def real(smollm2_path: Path) -> Iterator[RunningServer]:
    with ExitStack() as stack:
        yield launch(stack, str(smollm2_path), max_model_len=2048, kv_cache_memory_bytes=1 << 28)


def greedy(server: RunningServer, messages: list[Any], max_tokens: int = 24) -> Any:
    return server.openai.chat.completions.create(
        model=server.openai.models.list().data[0].id,
        messages=messages,
        max_tokens=max_tokens,
        temperature=0,
    )


def streamed(server: RunningServer, messages: list[Any], max_tokens: int) -> Iterator[str]:
    stream = server.openai.chat.completions.create(
        model=server.openai.models.list().data[0].id,
        messages=messages,
        max_tokens=max_tokens,
        temperature=0,
        stream=True,
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


def test_it_knows_the_capital_of_france(real: RunningServer) -> None:
    answer = greedy(real, QUESTION)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert "".join(streamed(real, QUESTION, 24)) == answer.choices[0].message.content


def test_the_second_time_the_prompt_is_cached(real: RunningServer) -> None:
    first, second = greedy(real, STORY, 8), greedy(real, STORY, 8)
    assert first.choices[0].message.content == second.choices[0].message.content
    assert second.usage.prompt_tokens_details.cached_tokens >= 32
    salted = {"messages": STORY, "max_tokens": 1, "cache_salt": "other"}
    usage = real.http.post("/v1/chat/completions", json=salted).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0


def test_clients_at_once_get_what_each_gets_alone(real: RunningServer) -> None:
    questions = [[{"role": "user", "content": f"Count to {number}."}] for number in range(2, 6)]
    alone = [greedy(real, question, 10).choices[0].message.content for question in questions]
    together: dict[int, str] = {}

    def one(index: int) -> None:
        together[index] = "".join(streamed(real, questions[index], 10))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(questions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[index] for index in range(len(questions))] == alone


def test_a_seed_fixes_the_answer(real: RunningServer) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": 12, "seed": 7, "n": 2}
    first, second = (real.http.post("/v1/completions", json=body).json() for _ in range(2))
    texts = [[choice["text"] for choice in answer["choices"]] for answer in (first, second)]
    assert texts[0] == texts[1] and texts[0][0] != texts[0][1]


def test_a_killed_worker_does_not_show_in_a_stream(real: RunningServer) -> None:
    undisturbed = "".join(streamed(real, STORY, 40))
    worker, text = real.worker_pid(), ""
    for part in streamed(real, STORY, 40):
        if len(text) < 60 <= len(text + part):
            os.kill(worker, signal.SIGKILL)
        text += part
    assert text == undisturbed
    assert real.worker_pid() != worker


def test_a_client_that_goes_away_frees_its_blocks(real: RunningServer) -> None:
    body = {"messages": STORY, "max_tokens": 1500, "stream": True, "ignore_eos": True}
    with real.http.stream("POST", "/v1/chat/completions", json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        until(lambda: real.metric("artesian_num_requests_running") == 1)
    until(lambda: real.metric("artesian_num_requests_running") == 0)
    assert real.metric("artesian_kv_cache_usage_perc") == 0


def test_a_megabyte_of_prompt(real: RunningServer) -> None:
    response = httpx.post(
        f"{real.url}/v1/completions", json={"prompt": "a well, " * 125_000}, timeout=60
    )
    assert response.status_code == 400
    assert "2048 tokens" in response.json()["error"]["message"]
