"""llama.cpp's server as a peer: its prompt cache, and its slots saved to files and restored."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from engines import LLAMA_SERVER

BINARY_VARIABLE = "LLAMA_SERVER"
"""Names the program; else it is looked for in the path, and where it is set up."""
START_S = 60.0
TIMEOUT_S = 600.0


def find_binary() -> Path | None:
    """llama.cpp's server, if it is installed."""
    named = os.environ.get(BINARY_VARIABLE) or shutil.which("llama-server")
    path = Path(named) if named else LLAMA_SERVER
    return path if path.is_file() else None


class LlamaServer:
    """A running server with one slot."""

    def __init__(self, port: int) -> None:
        # It drops connections that rest for some seconds, which looks like its end.
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            timeout=TIMEOUT_S,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        until = time.monotonic() + START_S
        while not self._is_ready():
            if time.monotonic() > until:
                raise RuntimeError(f"llama.cpp's server is not ready after {START_S:.0f} s")
            time.sleep(0.05)

    def first_token_s(self, prompt: list[int], reuse: bool = True) -> float:
        """Seconds to the first token of the answer; without `reuse` all of it is computed."""
        return self.turn_s(prompt, 2, reuse)[0]

    def turn_s(self, prompt: list[int], num_answer: int, reuse: bool = True) -> tuple[float, float]:
        """Seconds to the first and to the last token of an answer of so many tokens."""
        body = {
            "prompt": prompt,
            "n_predict": num_answer,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "cache_prompt": reuse,
        }
        started = time.perf_counter()
        first_s = None
        with self._client.stream("POST", "/completion", json=body) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                if first_s is None and line.startswith("data:"):
                    first_s = time.perf_counter() - started
        assert first_s is not None
        return first_s, time.perf_counter() - started

    def save(self, name: str) -> None:
        """Writes the KV of the slot to a file."""
        self._client.post(
            "/slots/0", params={"action": "save"}, json={"filename": name}
        ).raise_for_status()

    def restore_s(self, name: str) -> float:
        """Reads it back; returns the seconds."""
        started = time.perf_counter()
        self._client.post(
            "/slots/0", params={"action": "restore"}, json={"filename": name}
        ).raise_for_status()
        return time.perf_counter() - started

    def _is_ready(self) -> bool:
        try:
            return self._client.get("/health").status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def serving(
    binary: Path, model: Path, port: int, num_context: int, slots: Path
) -> Iterator[LlamaServer]:
    """A server on two threads that keeps nothing but its slot, ended afterwards."""
    command = [
        str(binary),
        *("-m", str(model), "--host", "127.0.0.1", "--port", str(port)),
        *("-c", str(num_context), "-np", "1", "-t", "2", "-tb", "2", "-b", "1024", "-ub", "512"),
        *("--slot-save-path", str(slots), "--slots", "--no-webui"),
    ]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    try:
        yield LlamaServer(port)
    finally:
        process.terminate()
        process.wait(60)
