import json
from typing import Any

import pytest

from tests.api.conftest import RunningServer
from tests.worker.toy import BOS, continuation


def complete(server: RunningServer, **body: Any) -> Any:
    response = server.http.post("/v1/completions", json={"max_tokens": 6, **body})
    assert response.status_code == 200, response.text
    return response.json()


def test_one_text(server: RunningServer) -> None:
    answer = server.openai.completions.create(model="toy", prompt="abc", max_tokens=20)
    assert answer.choices[0].text == continuation("abc", 20)
    assert answer.usage is not None and answer.usage.prompt_tokens == 1 + len("abc")


def test_several_texts_times_several_choices(server: RunningServer) -> None:
    answer = complete(server, prompt=["abc", "xyz"], n=2)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in answer["choices"]] == [
        continuation(prompt, 6, index) for prompt in ("abc", "xyz") for index in (0, 1)
    ]
    assert answer["usage"]["prompt_tokens"] == 8 and answer["usage"]["completion_tokens"] == 24


@pytest.mark.parametrize("prompt", [[97, 98, 99], [[97, 98, 99]]])
def test_token_ids(server: RunningServer, prompt: list[Any]) -> None:
    answer = complete(server, prompt=prompt)
    assert answer["choices"][0]["text"] == continuation("abc", 6)
    assert answer["usage"]["prompt_tokens"] == 3


def test_streaming_with_echo(server: RunningServer) -> None:
    stream = server.openai.completions.create(
        model="toy", prompt=["abc", "xyz"], max_tokens=6, echo=True, stream=True
    )
    texts, last = ["", ""], None
    for chunk in stream:
        last = chunk
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == ["abc" + continuation("abc", 6), "xyz" + continuation("xyz", 6)]
    assert last is not None and last.usage is not None and last.usage.completion_tokens == 12


def test_the_usage_chunk_comes_last_when_asked_for(server: RunningServer) -> None:
    body = {"prompt": "abc", "stream": True, "stream_options": {"include_usage": True}}
    response = server.http.post("/v1/completions", json=body)
    lines = [line for line in response.text.split("\n") if line]
    assert lines[-1] == "data: [DONE]"
    chunk = json.loads(lines[-2].removeprefix("data: "))
    assert chunk["choices"] == [] and chunk["usage"]["completion_tokens"] == 16


def test_logprobs_with_echo(server: RunningServer) -> None:
    answer = complete(server, prompt="ab", max_tokens=2, logprobs=2, echo=True)
    logprobs = answer["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["", "a", "b", "c", "d"]
    assert logprobs["text_offset"] == [0, 0, 1, 2, 3]
    assert logprobs["token_logprobs"] == [None, None, None, -0.5, -0.5]
    assert logprobs["top_logprobs"][3] == {"c": -0.5, "d": -1.5}


def test_only_the_prompt(server: RunningServer) -> None:
    answer = complete(server, prompt="ab", max_tokens=0, logprobs=1, echo=True)
    assert answer["choices"][0]["text"] == "ab"
    assert answer["choices"][0]["logprobs"]["tokens"] == ["", "a", "b"]
    assert answer["usage"]["completion_tokens"] == 0


def test_without_special_tokens(server: RunningServer) -> None:
    assert complete(server, prompt="ab", add_special_tokens=False)["usage"]["prompt_tokens"] == 2


def test_tokenize_and_back(server: RunningServer) -> None:
    body = {"prompt": "aé", "return_token_strs": True}
    tokens = server.http.post("/tokenize", json=body).json()
    assert tokens["tokens"] == [BOS, *"aé".encode()] and tokens["count"] == 4
    assert tokens["max_model_len"] == 4096 and tokens["token_strs"][1] == "a"
    text = server.http.post("/detokenize", json={"tokens": tokens["tokens"]}).json()
    assert text == {"prompt": "aé"}


def test_a_cached_prompt_is_reported(server: RunningServer) -> None:
    usage = complete(server, prompt="a" * 100)["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 96
