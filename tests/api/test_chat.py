import json
from typing import Any

import httpx
import openai
import pytest

from tests.api.conftest import RunningServer
from tests.worker.toy import continuation

MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]
PROMPT = "<user>hello<assistant>"
ANSWER = continuation(PROMPT, 30)


def events(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in response.text.split("\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_an_answer_at_once(server: RunningServer) -> None:
    answer = server.openai.chat.completions.create(
        model="toy", messages=MESSAGES, max_tokens=30, temperature=0
    )
    choice = answer.choices[0]
    assert choice.message.content == ANSWER and choice.message.role == "assistant"
    assert choice.finish_reason == "length"
    assert answer.id.startswith("chatcmpl-") and answer.model == "toy"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(PROMPT)
    assert answer.usage.completion_tokens == 30
    assert answer.usage.total_tokens == len(PROMPT) + 30
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    timings = answer.usage.model_dump()["artesian"]
    assert timings["ttft_ms"] > 0 and timings["tokens_per_s"] > 0


def test_a_streamed_answer_is_the_same(server: RunningServer) -> None:
    stream = server.openai.chat.completions.create(
        model="toy",
        messages=MESSAGES,
        max_completion_tokens=30,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == ANSWER
    assert [c.choices[0].finish_reason for c in chunks[-3:-1]] == [None, "length"]
    assert chunks[-1].choices == [] and chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 30
    assert chunks[-1].usage.prompt_tokens_details is not None
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_stream_that_does_not_ask_for_usage_has_it_in_its_last_chunk(
    server: RunningServer,
) -> None:
    body = {"messages": MESSAGES, "max_tokens": 3, "stream": True}
    chunks = events(server.http.post("/v1/chat/completions", json=body))
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert all("usage" not in chunk for chunk in chunks[:-1])


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices(server: RunningServer, stream: bool) -> None:
    body = {"messages": MESSAGES, "max_tokens": 9, "n": 3, "stream": stream}
    response = server.http.post("/v1/chat/completions", json=body)
    texts = ["", "", ""]
    if stream:
        for chunk in events(response):
            for choice in chunk["choices"]:
                texts[choice["index"]] += choice["delta"].get("content", "")
    else:
        texts = [choice["message"]["content"] for choice in response.json()["choices"]]
        assert response.json()["usage"]["completion_tokens"] == 27
    assert texts == [continuation(PROMPT, 9, index) for index in range(3)]


def test_logprobs(server: RunningServer) -> None:
    answer = server.openai.chat.completions.create(
        model="toy", messages=MESSAGES, max_tokens=3, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert [entry.token for entry in logprobs.content] == list(ANSWER[:3])
    assert [len(entry.top_logprobs) for entry in logprobs.content] == [2, 2, 2]
    assert logprobs.content[0].bytes == list(ANSWER[0].encode())
    assert logprobs.content[0].logprob == pytest.approx(-0.5)


def test_a_stop_string_ends_the_answer(server: RunningServer) -> None:
    body = {"messages": MESSAGES, "stop": ["zz", ANSWER[5]]}
    choice = server.http.post("/v1/chat/completions", json=body).json()["choices"][0]
    assert choice["message"]["content"] == ANSWER[:5]
    assert choice["finish_reason"] == "stop" and choice["stop_reason"] == ANSWER[5]


def test_roles_parts_and_template_variables(server: RunningServer) -> None:
    messages = [
        {"role": "developer", "content": "short"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "tool_calls": None, "refusal": None},
    ]
    body = {"messages": messages, "add_generation_prompt": False, "return_token_strs": True}
    tokens = server.http.post("/tokenize", json=body).json()
    assert "".join(tokens["token_strs"]) == "<system>short<user>ab<assistant>c"
    body = {"messages": messages, "chat_template_kwargs": {"refuse": True}}
    response = server.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["message"] == (
        "messages: the template refuses this conversation"
    )


def test_a_failure_in_the_engine_is_an_error_and_not_an_answer(server: RunningServer) -> None:
    messages: list[Any] = [{"role": "user", "content": "!fail"}]
    with pytest.raises(openai.InternalServerError, match="boom"):
        server.openai.chat.completions.create(model="toy", messages=messages)
    stream = server.openai.chat.completions.create(model="toy", messages=messages, stream=True)
    with pytest.raises(openai.APIError, match="boom"):
        list(stream)
