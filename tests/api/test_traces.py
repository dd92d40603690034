"""Traces of real servers: over HTTP, in files, in the terminal, and to a collector that is dead."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import RunningServer, StartServer, until

BODY = {"prompt": "abc", "max_tokens": 5}


def names(trace: dict[str, Any]) -> list[str]:
    return [span["name"] for span in trace["spans"]]


def test_each_answer_has_its_trace(server: RunningServer) -> None:
    response = server.http.post(
        "/v1/completions", json=BODY, headers={"x-request-id": "mine.1", "traceparent": "bad"}
    )
    assert response.headers["x-request-id"] == "mine.1"
    by_id = server.http.get(f"/v1/traces/{response.json()['id']}").json()
    by_name = server.http.get("/v1/traces/mine.1").json()
    assert by_name.pop("age_ms") >= by_id.pop("age_ms") >= by_id["duration_ms"] - 1
    assert by_id == by_name
    assert names(by_id) == ["prepare", "queue", "worker", "prefill", "decode", "worker queue"]
    assert (by_id["status"], by_id["prompt_tokens"], by_id["output_tokens"]) == ("length", 4, 5)
    for span in by_id["spans"]:
        assert 0 <= span["start_ms"] <= span["end_ms"] <= by_id["duration_ms"] + 0.01
        assert span["parent"] < len(by_id["spans"])
    assert 0 < by_id["ttft_ms"] <= by_id["duration_ms"]
    assert "owner" not in by_id and "abc" not in json.dumps(by_id)


def test_names_of_requests_are_made_up_where_they_are_missing_or_bad(server: RunningServer) -> None:
    for sent in ({}, {"x-request-id": "two words"}):
        answered = server.http.get("/health", headers=sent).headers["x-request-id"]
        assert answered.startswith("req-")


def test_a_request_that_runs_and_one_that_is_given_up(start_server: StartServer) -> None:
    server = start_server("toy:10")
    body = {"prompt": "abc", "max_tokens": 1000, "stream": True}
    headers = {"x-request-id": "long"}
    with server.http.stream("POST", "/v1/completions", json=body, headers=headers) as response:
        lines = response.iter_lines()
        next(lines)
        trace = server.http.get("/v1/traces/long").json()
        assert trace["status"] == "running" and trace["duration_ms"] is None
        assert names(trace)[-1] == "decode"
    until(lambda: server.http.get("/v1/traces/long").json()["status"] == "abort")


def test_refusals_and_bad_requests(start_server: StartServer) -> None:
    server = start_server("toy:20", max_num_seqs=1, max_queue_len=1)
    server.http.post("/v1/completions", json={"prompt": "!invalid"})
    (trace,) = server.http.get("/v1/traces").json()["data"]
    assert trace["status"] == "InvalidRequestError"
    assert server.http.get("/v1/traces/none").json()["error"]["code"] == "trace_not_found"
    assert server.http.get("/v1/traces?limit=0").status_code == 400


def test_a_killed_worker_is_in_the_trace(start_server: StartServer) -> None:
    server = start_server("toy:20")
    answer = server.http.post("/v1/completions", json={"prompt": "!die-once a", "max_tokens": 6})
    trace = server.http.get(f"/v1/traces/{answer.json()['id']}").json()
    assert trace["num_retries"] == 1 and names(trace).count("worker") == 2
    workers = [span for span in trace["spans"] if span["name"] == "worker"]
    assert "42" in workers[0]["outcome"] and workers[0]["worker"] != workers[1]["worker"]


def test_a_key_sees_its_own(start_server: StartServer) -> None:
    server = start_server(api_key="a,b")
    headers = {key: {"Authorization": f"Bearer {key}"} for key in "ab"}
    answer = httpx.post(server.url + "/v1/completions", json=BODY, headers=headers["a"]).json()
    path = f"{server.url}/v1/traces"
    assert len(httpx.get(path, headers=headers["a"]).json()["data"]) == 1
    assert httpx.get(path, headers=headers["b"]).json()["data"] == []
    assert httpx.get(f"{path}/{answer['id']}", headers=headers["b"]).status_code == 404
    assert httpx.get(path).status_code == 401


def artesian(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "artesian", "trace", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_terminal_shows_them(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(trace_dir=tmp_path)
    ids = []
    for num_tokens in (2, 400, 5):
        body = {"prompt": "abc", "max_tokens": num_tokens}
        ids.append(server.http.post("/v1/completions", json=body).json()["id"])
    from_server = artesian(ids[1], "--url", server.url)
    assert from_server.returncode == 0 and ids[1] in from_server.stdout
    assert "█" in from_server.stdout and "decode" in from_server.stdout
    assert server.stop() == 0
    shown = artesian(ids[1], "--trace-dir", str(tmp_path))
    assert shown.returncode == 0 and "400 tokens" in shown.stdout
    listed = artesian("--slowest", "2", "--trace-dir", str(tmp_path), "--json")
    assert json.loads(listed.stdout)[0]["id"] == ids[1]
    newest = artesian("--trace-dir", str(tmp_path))
    assert newest.stdout.index(ids[2]) < newest.stdout.index(ids[0])
    missing = artesian("nothing", "--trace-dir", str(tmp_path))
    assert missing.returncode == 1 and "no trace of nothing" in missing.stderr


def test_traces_can_be_turned_off(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(trace_dir=tmp_path / "none", traces="off")
    assert server.http.post("/v1/completions", json=BODY).status_code == 200
    assert server.http.get("/v1/traces").json()["data"] == []
    assert server.stop() == 0 and not (tmp_path / "none").exists()


def test_a_directory_that_cannot_be_written_harms_nobody(
    start_server: StartServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    server = start_server(trace_dir=tmp_path / "file" / "traces")
    for _ in range(3):
        assert server.http.post("/v1/completions", json=BODY).status_code == 200
    until(lambda: "traces cannot be kept" in server.log())
    assert server.stop() == 0


def test_a_dead_collector_changes_nothing(start_server: StartServer) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="pip install .[otel]")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        server = start_server(otlp_endpoint=f"http://127.0.0.1:{port}/v1/traces")
        for _ in range(20):
            assert server.http.post("/v1/completions", json=BODY).status_code == 200
        assert server.stop() == 0
    assert "Traceback" not in server.log()


def test_the_extra_is_asked_for_by_name(start_server: StartServer) -> None:
    try:
        import opentelemetry.sdk  # noqa: F401
    except ImportError:
        with pytest.raises(RuntimeError, match=r"artesian\[otel\]"):
            start_server(otlp_endpoint="http://127.0.0.1:1/v1/traces")
