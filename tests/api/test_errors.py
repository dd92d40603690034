import json
from typing import Any

import httpx
import openai
import pytest

from tests.api.conftest import RunningServer

CHAT = "/v1/chat/completions"
MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]


def error_of(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert isinstance(body["error"], dict)
    return body["error"]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("temperature", "hot", '"hot"'),
        ("temperature", -1, "-1"),
        ("temperature", True, "true"),
        ("top_p", 0, "0"),
        ("top_k", 1.5, "1.5"),
        ("n", -3, "-3"),
        ("n", 10**30, "1000000000"),
        ("seed", 2**63, str(2**63)),
        ("seed", "1", '"1"'),
        ("max_tokens", 0, "0"),
        ("stream", "yes", '"yes"'),
        ("stop", "", '""'),
        ("stop_token_ids", [1, -1], "-1"),
        ("logit_bias", {"x": 1}, "x"),
        ("messages", [], "[]"),
        ("messages", "hello", '"hello"'),
        ("top_logprobs", 21, "21"),
        ("cache_salt", "", '""'),
        ("priority", 2**40, str(2**40)),
    ],
)
def test_a_wrong_value_is_named(
    server: RunningServer, field: str, value: object, said: str
) -> None:
    body = {"messages": MESSAGES, field: value}
    error = error_of(server.http.post(CHAT, json=body))
    assert error["param"].startswith(field)
    assert error["message"].startswith(field) and said in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(server: RunningServer, value: str) -> None:
    body = f'{{"messages": {json.dumps(MESSAGES)}, "temperature": {value}}}'
    headers = {"Content-Type": "application/json"}
    error = error_of(server.http.post(CHAT, content=body, headers=headers))
    assert error["param"] == "temperature"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"messages": ' + b"1" * 5000 + b"}",
    ],
)
def test_bodies_that_are_no_request(server: RunningServer, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    error_of(server.http.post(CHAT, content=content, headers=headers))


def test_a_body_of_another_type(server: RunningServer) -> None:
    body = json.dumps({"messages": MESSAGES}).encode()
    error = error_of(server.http.post(CHAT, content=body, headers={"Content-Type": "text/plain"}))
    assert "Content-Type: application/json" in error["message"]


def test_broken_characters(server: RunningServer) -> None:
    body = b'{"messages": [{"role": "user", "content": "a\\ud800b"}]}'
    headers = {"Content-Type": "application/json"}
    error = error_of(server.http.post(CHAT, content=body, headers=headers))
    assert error["param"] == "messages[0].content"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [*MESSAGES, {"role": "assistant", "content": "", "tool_calls": [1]}]},
            "messages[1].tool_calls",
        ),
    ],
)
def test_features_to_come_are_named(
    server: RunningServer, change: dict[str, Any], param: str
) -> None:
    error = error_of(server.http.post(CHAT, json={"messages": MESSAGES, **change}))
    assert error["param"] == param and error["code"] == "unsupported_parameter"
    assert "not supported yet" in error["message"]


def test_features_to_come_may_be_turned_off(server: RunningServer) -> None:
    body = {
        "messages": MESSAGES,
        "max_tokens": 1,
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "user": "someone",
        "functions": None,
    }
    assert server.http.post(CHAT, json=body).status_code == 200


def test_unknown_fields_are_not_swallowed(server: RunningServer) -> None:
    error = error_of(server.http.post(CHAT, json={"messages": MESSAGES, "max_token": 5}))
    assert error["message"] == "unknown field: max_token"
    assert error["code"] == "unknown_parameter"


def test_an_unknown_model(server: RunningServer) -> None:
    with pytest.raises(openai.NotFoundError, match="toy") as caught:
        server.openai.chat.completions.create(model="gpt-9", messages=MESSAGES)
    assert caught.value.code == "model_not_found"


def test_a_prompt_that_is_too_long_names_both_numbers(server: RunningServer) -> None:
    error = error_of(server.http.post("/v1/completions", json={"prompt": "a" * 5000}))
    assert "5001" in error["message"] and "4096" in error["message"]
    assert error["code"] == "context_length_exceeded"


def test_an_empty_prompt(server: RunningServer) -> None:
    body = {"prompt": "", "add_special_tokens": False}
    assert "no tokens" in error_of(server.http.post("/v1/completions", json=body))["message"]


def test_token_ids_outside_the_vocabulary(server: RunningServer) -> None:
    for path, body in (
        ("/v1/completions", {"prompt": [1, 258]}),
        ("/detokenize", {"tokens": [1, 258]}),
    ):
        assert "258" in error_of(server.http.post(path, json=body))["message"]


def test_what_the_engine_refuses(server: RunningServer) -> None:
    for stream in (False, True):
        body = {"prompt": "!invalid", "stream": stream}
        error = error_of(server.http.post("/v1/completions", json=body))
        assert "!invalid" in error["message"]


def test_a_defect_in_the_engine(server: RunningServer) -> None:
    error = error_of(server.http.post("/v1/completions", json={"prompt": "!crash"}), 500)
    assert "crash in add_request" in error["message"]


def test_other_addresses_and_methods(server: RunningServer) -> None:
    error_of(server.http.get("/nothing/here"), 404)
    error_of(server.http.get(CHAT), 405)
    for path in ("/v1/embeddings", "/v1/responses", "/v1/messages"):
        error = error_of(server.http.post(path, json={}), 501)
        assert path in error["message"]
