import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from artesian.config import EngineConfig, ServerConfig
from tests.api.conftest import (
    STOP_TIMEOUT_S,
    RunningServer,
    StartServer,
    start_process,
    until,
)
from tests.worker.test_supervisor import alive
from tests.worker.toy import continuation

COMPLETIONS = "/v1/completions"


def texts(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("data: {"):
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                yield choice["text"]


def test_a_killed_worker_does_not_show_in_a_stream(start_server: StartServer) -> None:
    server = start_server("toy:5")
    first = server.worker_pid()
    body = {"prompt": "abc", "max_tokens": 200, "stream": True}
    text, killed = "", False
    with server.http.stream("POST", COMPLETIONS, json=body) as stream:
        for part in texts(stream.iter_lines()):
            text += part
            if len(text) > 50 and not killed:
                os.kill(first, signal.SIGKILL)
                killed = True
    assert text == continuation("abc", 200)
    assert server.metric("artesian_worker_restarts_total") == 1
    assert server.worker_pid() != first and not alive(first)


def test_a_request_that_kills_every_worker_gets_an_error(start_server: StartServer) -> None:
    server = start_server()
    response = server.http.post(COMPLETIONS, json={"prompt": "!die"})
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "worker_error"
    assert "tried twice" in response.json()["error"]["message"]
    with pytest.raises(openai.APIError, match="tried twice"):
        list(server.openai.completions.create(model="toy", prompt="!die", stream=True))
    until(lambda: server.http.get("/ready").status_code == 200)
    answer = server.openai.completions.create(model="toy", prompt="!die-once", max_tokens=9)
    assert answer.choices[0].text == continuation("!die-once", 9)


def test_sigterm_lets_requests_finish_and_refuses_new_ones(start_server: StartServer) -> None:
    server = start_server("toy:10")
    body = {"prompt": "abc", "max_tokens": 150, "stream": True}
    with server.http.stream("POST", COMPLETIONS, json=body) as stream:
        parts = texts(stream.iter_lines())
        text = next(parts)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(server.url + "/ready").status_code == 503)
        assert httpx.get(server.url + "/health").status_code == 200
        refused = httpx.post(server.url + COMPLETIONS, json={"prompt": "abc"})
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "shutting_down"
        text += "".join(parts)
    assert text == continuation("abc", 150)
    assert server.process.wait(STOP_TIMEOUT_S) == 0


@pytest.mark.parametrize("signals", [1, 2])
def test_a_drain_takes_no_longer_than_allowed(start_server: StartServer, signals: int) -> None:
    server = start_server("toy:10", drain_timeout_s=0.5 if signals == 1 else 60)
    body = {"prompt": "abc", "max_tokens": 4000, "stream": True}
    with server.http.stream("POST", COMPLETIONS, json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        for _ in range(signals):
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        rest = "".join(lines)
    assert "the server is shutting down" in rest and "[DONE]" in rest
    assert server.process.wait(STOP_TIMEOUT_S) == 0


def test_an_idle_server_stops_at_once(start_server: StartServer) -> None:
    server = start_server()
    worker = server.worker_pid()
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 3
    assert not alive(worker)


def test_no_worker_outlives_a_killed_server(start_server: StartServer) -> None:
    server = start_server()
    worker = server.worker_pid()
    server.process.kill()
    until(lambda: not alive(worker))


def run_to_end(engine: EngineConfig, config: ServerConfig) -> tuple[int, str]:
    with tempfile.TemporaryFile("w+") as log:
        process = start_process(engine, config, log)
        try:
            status = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        log.seek(0)
        return status, log.read()


def test_a_model_that_cannot_be_loaded_ends_the_server() -> None:
    status, log = run_to_end(EngineConfig(model="toy:bad"), ServerConfig(port=0, ui=False))
    assert status == 1
    assert log.rstrip().endswith("artesian: error: toy:bad: no such model")
    assert "Traceback" not in log


def test_a_port_that_is_taken_ends_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, log = run_to_end(EngineConfig(model="toy"), ServerConfig(port=port, ui=False))
    assert status == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in log


def test_before_the_model_is_there() -> None:
    with tempfile.TemporaryFile("w+") as log, contextlib.ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        engine = EngineConfig(model="toy:slow")
        process = start_process(engine, ServerConfig(port=port, ui=False), log)
        stack.callback(process.wait, STOP_TIMEOUT_S)
        stack.callback(process.kill)
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}"))

        def is_up() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return client.get("/health").status_code == 200
            return False

        until(is_up)
        assert client.get("/ready").status_code == 503
        response = client.post(COMPLETIONS, json={"prompt": "abc"})
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "model_loading"
        until(lambda: client.get("/ready").status_code == 200)
        assert client.post(COMPLETIONS, json={"prompt": "abc"}).status_code == 200


def test_a_full_disk_under_the_log_costs_only_the_log() -> None:
    with Path("/dev/full").open("w") as log, contextlib.ExitStack() as stack:
        process = start_process(EngineConfig(model="toy"), ServerConfig(port=0, ui=False), log)
        stack.callback(process.wait, STOP_TIMEOUT_S)
        stack.callback(process.kill)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        for _ in range(3):
            response = httpx.post(url + COMPLETIONS, json={"prompt": "abc", "max_tokens": 3})
            assert response.json()["choices"][0]["text"] == continuation("abc", 3)


def test_requests_wait_for_a_worker_that_comes_back(start_server: StartServer) -> None:
    server = start_server()
    os.kill(server.worker_pid(), signal.SIGKILL)
    until(lambda: server.http.get("/ready").status_code == 503)
    response = server.http.post(COMPLETIONS, json={"prompt": "abc", "max_tokens": 3})
    assert response.json()["choices"][0]["text"] == continuation("abc", 3)


def test_many_clients_and_a_killed_worker(start_server: StartServer) -> None:
    server = start_server("toy:5", max_num_seqs=8)
    results: list[str] = []

    def one(server: RunningServer) -> None:
        answer = server.openai.completions.create(model="toy", prompt="abc", max_tokens=100)
        results.append(answer.choices[0].text)

    threads = [threading.Thread(target=one, args=(server,)) for _ in range(24)]
    for thread in threads:
        thread.start()
    until(lambda: server.metric("artesian_num_requests_running") == 8)
    os.kill(server.worker_pid(), signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert results == [continuation("abc", 100)] * 24
