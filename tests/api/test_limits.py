import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from artesian.api.auth import ApiKeys, cache_salt
from tests.api.conftest import RunningServer, StartServer, until

COMPLETIONS = "/v1/completions"


def test_a_key_opens_the_api_and_nothing_else_does(start_server: StartServer) -> None:
    server = start_server(api_key="first, second")
    for header in (None, "Bearer wrong", "Basic second", "Bearer", "second"):
        headers = {"Authorization": header} if header else {}
        for path in ("/v1/models", "/openapi.json", "/nothing"):
            response = httpx.get(server.url + path, headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
    for key in ("first", "second"):
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx.get(server.url + "/v1/models", headers=headers).status_code == 200
    for path in ("/health", "/ready", "/version", "/metrics"):
        assert httpx.get(server.url + path).status_code == 200
    assert "first" not in server.log()


def test_every_key_has_its_own_cache_salt() -> None:
    keys = ApiKeys("a,b")
    first, second = keys.find(b"Bearer a"), keys.find(b"bearer b")
    assert (first, second) == (b"a", b"b")
    assert cache_salt(first) != cache_salt(second) and cache_salt(first) != "a"
    assert cache_salt(None) == ""
    assert not ApiKeys(None).required and not ApiKeys(" , ").required


def test_a_body_that_is_too_large_is_not_read(start_server: StartServer) -> None:
    server = start_server(max_body_bytes=10_000)
    response = server.http.post(COMPLETIONS, json={"prompt": "a" * 10_000})
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"
    assert "10000 bytes" in response.json()["error"]["message"]

    def endless() -> Iterator[bytes]:
        yield b'{"prompt": "'
        for _ in range(100):
            yield b"a" * 1000

    headers = {"Content-Type": "application/json"}
    try:
        response = server.http.post(COMPLETIONS, content=endless(), headers=headers)
    except httpx.TransportError:
        pass  # the server closed while the client was still sending
    else:
        assert response.status_code == 413
    assert server.http.get("/health").status_code == 200


def test_a_body_that_does_not_go_on_is_given_up(start_server: StartServer) -> None:
    server = start_server(body_timeout_s=0.3)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"prompt'
        )
        connection.settimeout(10)
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_200_at_once_on_a_queue_of_64(start_server: StartServer) -> None:
    server = start_server("toy:10", max_num_seqs=16, max_queue_len=64)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:

        async def one(index: int) -> httpx.Response:
            body = {"prompt": "abc", "max_tokens": 100, "stream": index % 2 == 0}
            return await client.post(COMPLETIONS, json=body)

        responses = await asyncio.gather(*map(one, range(200)))
    statuses = Counter(response.status_code for response in responses)
    # 16 run and 64 wait; some more find a place when the first ones are done.
    assert set(statuses) == {200, 429}
    assert 80 <= statuses[200] < 200
    for response in responses:
        if response.status_code == 429:
            assert 1 <= int(response.headers["retry-after"]) <= 120
            assert response.json()["error"]["type"] == "rate_limit_error"
        else:
            assert '"completion_tokens":100' in response.text
    until(lambda: server.metric("artesian_num_requests_running") == 0)


def test_more_choices_than_the_server_can_ever_run(start_server: StartServer) -> None:
    server = start_server(max_num_seqs=2, max_queue_len=1)
    response = server.http.post(COMPLETIONS, json={"prompt": ["a", "b"], "n": 2})
    assert response.status_code == 400
    assert "4 completions at once" in response.json()["error"]["message"]


def test_connections_are_bounded(start_server: StartServer) -> None:
    server = start_server("toy:10", max_connections=1)
    body = {"prompt": "abc", "max_tokens": 500, "stream": True}
    with server.http.stream("POST", COMPLETIONS, json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        response = httpx.get(server.url + "/v1/models")
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "too_many_connections"
        assert httpx.get(server.url + "/health").status_code == 200
    until(lambda: httpx.get(server.url + "/v1/models").status_code == 200)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_ends_its_request(start_server: StartServer, stream: bool) -> None:
    server = start_server("toy:10")
    body = json.dumps({"prompt": "abc", "max_tokens": 4000, "stream": stream}).encode()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        until(lambda: server.metric("artesian_num_requests_running") == 1)
    until(lambda: server.metric("artesian_num_requests_running") == 0)
    assert server.metric("artesian_generation_tokens_total") < 1000
    text = server.http.get("/metrics").text
    assert 'artesian_request_success_total{finished_reason="abort"} 1.0' in text


def test_a_client_that_does_not_read_is_cut_off(start_server: StartServer) -> None:
    server = start_server("toy:1", max_stream_buffer_tokens=64)
    body = json.dumps(
        {"prompt": "abc", "max_tokens": 4000, "n": 8, "stream": True, "logprobs": 20}
    ).encode()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        until(lambda: server.metric("artesian_generation_tokens_total") > 0)
        until(lambda: server.metric("artesian_num_requests_running") == 0)
        assert server.metric("artesian_generation_tokens_total") < 8 * 4000
        answer = b""
        connection.settimeout(10)
        while b"[DONE]" not in answer:
            answer += connection.recv(1 << 16)
    assert b"tokens unread" in answer and b"client_too_slow" in answer


def test_a_request_ends_at_its_deadline(start_server: StartServer) -> None:
    server = start_server("toy:20", request_timeout_s=0.5)
    started = time.monotonic()
    body: dict[str, Any] = {"prompt": "abc", "max_tokens": 4000}
    choice = server.http.post(COMPLETIONS, json=body).json()["choices"][0]
    assert choice["finish_reason"] == "length" and 3 < len(choice["text"]) < 100
    assert time.monotonic() - started < 5


def test_a_prompt_of_a_megabyte_does_not_stall_others(start_server: StartServer) -> None:
    server = start_server("toy:5")
    body = {"prompt": "abc", "max_tokens": 300, "stream": True}
    with server.http.stream("POST", COMPLETIONS, json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        long = httpx.post(server.url + COMPLETIONS, json={"prompt": "a" * 1_000_000}, timeout=30)
        assert long.status_code == 400
        assert "1000001 tokens" in long.json()["error"]["message"]
        assert '"completion_tokens":300' in "".join(lines)


def test_the_session_server_is_still_well(server: RunningServer) -> None:
    assert server.http.get("/ready").status_code == 200
    assert server.metric("artesian_worker_restarts_total") == 0
