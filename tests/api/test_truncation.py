"""A conversation that outgrows the context, over HTTP and on a real model."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.api.conftest import RunningServer, launch

pytest.importorskip("artesian._core", reason="the native module is not built")

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server(smollm2_path: Path) -> Iterator[RunningServer]:
    settings = {"max_model_len": 256, "context_overflow": "truncate"}
    with ExitStack() as stack:
        yield launch(stack, str(smollm2_path), kv_cache_memory_bytes=1 << 27, **settings)


def body(messages: list[Any], **fields: Any) -> dict[str, Any]:
    return {"messages": messages, "temperature": 0, "max_tokens": 60, "ignore_eos": True, **fields}


def test_turns_behind_an_overflow_are_cached_and_say_what_was_dropped(
    server: RunningServer,
) -> None:
    messages: list[Any] = []
    truncated = []
    for turn in range(6):
        messages.append({"role": "user", "content": f"Tell me more about well number {turn}."})
        answer = server.http.post(CHAT, json=body(messages)).json()
        usage = answer["usage"]
        details = usage["prompt_tokens_details"]
        truncated.append(details["truncated_tokens"])
        assert usage["completion_tokens"] == 60
        assert details["cached_tokens"] < usage["prompt_tokens"]
        if turn:
            assert details["cached_tokens"] > 32
        messages.append(answer["choices"][0]["message"])
    assert truncated == sorted(truncated)
    assert (truncated[0], truncated[-1] >= 256) == (0, True)
    assert server.metric("artesian_context_overflows_total") >= 2
    assert server.metric("artesian_context_turned_blocks_total") >= 6


def test_a_stream_goes_on_across_the_end_of_the_window(server: RunningServer) -> None:
    stream = server.openai.chat.completions.create(
        model=server.openai.models.list().data[0].id,
        messages=[{"role": "user", "content": "Count to a thousand, slowly."}],
        max_tokens=400,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    chunks = list(stream)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    usage = chunks[-1].usage
    assert usage is not None and usage.completion_tokens == 400
    details = usage.prompt_tokens_details
    assert details is not None and details.model_dump()["truncated_tokens"] > 128


def test_a_request_may_rather_have_the_error(server: RunningServer) -> None:
    messages: list[Any] = [{"role": "user", "content": "A well, and another well. " * 60}]
    assert server.http.post(CHAT, json=body(messages)).status_code == 200
    with pytest.raises(openai.BadRequestError, match="256 tokens long") as caught:
        server.openai.chat.completions.create(
            model=server.openai.models.list().data[0].id,
            messages=messages,
            extra_body={"context_overflow": "error"},
        )
    assert caught.value.code == "context_length_exceeded"
    refused = server.http.post("/v1/completions", json={"prompt": [5] * 16_384})
    assert refused.status_code == 400
    assert "longest that is truncated is 16384" in refused.json()["error"]["message"]
