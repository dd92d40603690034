"""Attention and skipping as fields of requests, over HTTP and on a real model."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import RunningServer, launch, until

pytest.importorskip("artesian._core", reason="the native module is not built")

COMPLETIONS = "/v1/completions"
PROMPT = " ".join(
    f"The {n}th of them came from the east and had {n % 7} horses." for n in range(40)
)


@pytest.fixture(scope="module")
def server(smollm2_path: Path) -> Iterator[RunningServer]:
    settings = {"max_model_len": 2048, "attention_summaries": True, "attention_epsilon": 0.5}
    with ExitStack() as stack:
        yield launch(stack, str(smollm2_path), kv_cache_memory_bytes=1 << 28, **settings)


def text(server: RunningServer, **fields: Any) -> str:
    body = {"prompt": PROMPT, "max_tokens": 40, "temperature": 0, "ignore_eos": True, **fields}
    answer = server.http.post(COMPLETIONS, json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def test_each_request_says_how_it_attends(server: RunningServer) -> None:
    name = "artesian_attention_sparse_tokens_total"
    least = {"min_context_tokens": 64, "budget_tokens": 64}
    plain = text(server)
    assert server.metric(name) == 0
    sparse = text(server, attention={"selector": "progressive", **least})
    assert sparse != plain
    until(lambda: server.metric(name) >= 39)
    assert text(server, attention="dense") == text(server) == plain
    window = {"selector": "window", **least}
    messages = [{"role": "user", "content": PROMPT}]
    chat = {"messages": messages, "max_tokens": 8, "attention": window}
    assert server.http.post("/v1/chat/completions", json=chat).status_code == 200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"attention": "best"}, "attention"),
        ({"attention": {"epsilon": 0.9}}, "attention"),
        ({"attention": {"selector": "progressive", "epsilon": 0}}, "epsilon"),
        ({"attention": {"selector": "progressive", "blocks": 3}}, "blocks"),
        ({"attention": {"selector": "window"}}, "budget_tokens"),
        ({"attention": 3}, "attention"),
        ({"num_skipped": -1}, "num_skipped"),
        ({"num_skipped": 1.5}, "num_skipped"),
        ({"num_skipped": 4}, "artesian calibrate"),
    ],
)
def test_nonsense_is_refused(server: RunningServer, fields: dict[str, Any], words: str) -> None:
    answer = server.http.post(COMPLETIONS, json={"prompt": "abc", "max_tokens": 2, **fields})
    assert answer.status_code == 400
    assert words in answer.text
