"""Answers over HTTP, from a small server that speaks just enough of the protocol."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from artesian.cli.answers.base import AnswerError
from artesian.cli.answers.remote import RemoteAnswerer
from artesian.cli.app import run
from artesian.engine.base import SamplingParams

CHUNKS: list[dict[str, Any]] = [
    {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"content": "Hel"}}]},
    {"choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]},
    {
        "choices": [],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    },
]


class Handler(BaseHTTPRequestHandler):
    """Lists one model and streams `CHUNKS`; keeps the last body."""

    last_body: dict[str, Any]

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != "Bearer secret":
            self._reply(401, {"error": {"message": "no key"}})
        else:
            self._reply(200, {"data": [{"id": "tiny"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Handler.last_body = body
        if body.get("max_tokens") == 13:
            self._reply(400, {"error": {"message": "unlucky"}})
            return
        self.send_response(200)
        self.end_headers()
        for chunk in CHUNKS:
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_streams_and_counts(url: str) -> None:
    answerer = RemoteAnswerer(url + "/v1", "secret", None)
    assert answerer.name == "tiny"
    deltas = list(answerer.chat([{"role": "user", "content": "hi"}], SamplingParams(top_k=3)))
    answerer.close()
    assert "".join(delta.text for delta in deltas) == "Hello"
    assert deltas[2].finish_reason == "stop"
    last = deltas[-1]
    assert (last.num_prompt_tokens, last.num_cached_tokens, last.num_output_tokens) == (9, 4, 2)
    assert Handler.last_body["top_k"] == 3
    assert "min_p" not in Handler.last_body
    assert Handler.last_body["stream_options"] == {"include_usage": True}


def test_errors_are_the_servers_words(url: str) -> None:
    with pytest.raises(AnswerError, match="401: no key") as caught:
        RemoteAnswerer(url, None, None)
    assert "--api-key" in caught.value.hint
    answerer = RemoteAnswerer(url, "secret", None)
    with pytest.raises(AnswerError, match="400: unlucky"):
        list(answerer.complete("x", SamplingParams(max_tokens=13)))
    answerer.close()


def test_run_prints_text_and_numbers_apart(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["run", "tiny", "hi", "--url", url, "--api-key", "secret", "--system", "be kind"])
    captured = capsys.readouterr()
    assert (code, captured.out) == (0, "Hello\n")
    assert "9 prompt tokens (4 cached)" in captured.err
    assert [m["role"] for m in Handler.last_body["messages"]] == ["system", "user"]


def test_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "tiny", "hi", "--url", "http://127.0.0.1:9"]) == 1
    assert "hint: is the server running there?" in capsys.readouterr().err
