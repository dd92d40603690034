"""Real servers, each a process of its own with a worker process behind it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import openai
import pytest

from artesian.config import EngineConfig, ServerConfig

ROOT = Path(__file__).parents[2]
STOP_TIMEOUT_S = 20.0


@dataclass
class RunningServer:
    process: subprocess.Popen[str]
    log_file: IO[str]
    url: str
    http: httpx.Client
    openai: openai.OpenAI

    def log(self) -> str:
        self.log_file.seek(0)
        return self.log_file.read()

    def metric(self, name: str) -> float:
        for line in self.http.get("/metrics").text.splitlines():
            if line.startswith(name + " "):
                return float(line.split()[-1])
        raise KeyError(name)

    def worker_pid(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        (pid,) = children.read_text().split()
        return int(pid)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)


def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


StartServer = Callable[..., RunningServer]


def start_process(
    engine: EngineConfig, server: ServerConfig, log_file: IO[str]
) -> subprocess.Popen[str]:
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "tests/api/server_process.py"),
            engine.model_dump_json(),
            server.model_dump_json(),
        ],
        stdout=subprocess.PIPE,
        stderr=log_file,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )


def launch(stack: ExitStack, model: str, **settings: Any) -> RunningServer:
    engine_fields = {k: v for k, v in settings.items() if k in EngineConfig.model_fields}
    server_fields = {k: v for k, v in settings.items() if k in ServerConfig.model_fields}
    config = ServerConfig(**{"port": 0, "ui": False, **server_fields})
    log_file: IO[str] = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115
    process = start_process(EngineConfig(model=model, **engine_fields), config, log_file)
    stack.callback(process.wait, STOP_TIMEOUT_S)
    stack.callback(process.kill)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    if not url:
        log_file.seek(0)
        raise RuntimeError(f"the server did not start:\n{log_file.read()}")
    headers = {"Authorization": f"Bearer {config.api_key}"} if config.api_key else {}
    http = stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=30))
    client = openai.OpenAI(
        base_url=f"{url}/v1", api_key=config.api_key or "none", max_retries=0, timeout=30
    )
    stack.callback(client.close)
    return RunningServer(process, log_file, url, http, client)


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Starts servers with the given settings of `EngineConfig` and `ServerConfig`."""
    with ExitStack() as stack:
        yield lambda model="toy", **settings: launch(stack, model, **settings)


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """One server for all tests that leave it as it was."""
    with ExitStack() as stack:
        yield launch(stack, "toy", vllm_metrics=True)
