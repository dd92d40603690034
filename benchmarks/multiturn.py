"""What a later turn of a conversation costs, by where the KV of the earlier ones is.

    make bench-multiturn
    make bench-multiturn ARGS='--history 7000 --rounds 5'

A real server and the openai client: the time from sending a prompt to its first token. Every round
has a history of its own, and the ways take turns within it; a figure is the median of the rounds.
llama.cpp's server runs the same prompts on the same file, if it is installed.
"""

import argparse
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from openai import OpenAI

import llama_server
import report
from artesian.pool import Pool
from engines import MODELS
from machine import describe
from report import Row

COMPUTED = "computed"
LLAMA = "llama.cpp"
TARGETS = {
    "in memory": 0.05,
    "from disk, after a restart": 0.08,
    "from disk, pushed out of memory": 0.08,
    "from disk, another server's": 0.08,
    "from the pool, after a restart": 0.08,
    "from the pool, another server's": 0.08,
}
"""Parts of the time to compute it."""
FIRST_ID, LAST_ID = 1_000, 40_000
"""Of tokens that mean nothing in a template, and that both demo models have."""
START_S = 120.0
SAVE_S = 1.0
console = report.make_console()
Prompt = list[int]


class Server:
    """A running server, warmed up."""

    def __init__(self, model: str, port: int) -> None:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(model, url)
        self._client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        self._model = self._client.models.list().data[0].id
        self.first_token_s([FIRST_ID] * 200)

    def first_token_s(self, prompt: Prompt) -> float:
        """Seconds to the first token of the answer."""
        return self.turn_s(prompt, 2)[0]

    def turn_s(self, prompt: Prompt, num_answer: int, salt: str = "") -> tuple[float, float]:
        """Seconds to the first and to the last token of an answer of so many tokens.

        The token ids go as an extra field: in its argument for prompts the client looks at each,
        40 ms for 4,100, and what is measured is the server.
        """
        fields: dict[str, object] = {"prompt": prompt, "ignore_eos": True}
        if salt:
            fields["cache_salt"] = salt
        started = time.perf_counter()
        stream = iter(
            self._client.completions.create(
                model=self._model,
                prompt="",
                max_tokens=num_answer,
                temperature=0,
                stream=True,
                extra_body=fields,
            )
        )
        next(stream)
        first_s = time.perf_counter() - started
        for _ in stream:
            pass
        return first_s, time.perf_counter() - started


@contextmanager
def serving(model: str, **settings: object) -> Iterator[Server]:
    """A server with settings of `artesian serve`, ended as a service manager does it."""
    with _running(model, **settings) as port:
        yield Server(model, port)


@contextmanager
def serving_at(model: str, *switches: str, **settings: object) -> Iterator[str]:
    """The same with some switches; its URL, once it is ready."""
    with _running(model, *switches, **settings) as port:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(model, url)
        yield url


@contextmanager
def _running(model: str, *switches: str, **settings: object) -> Iterator[int]:
    port = free_port()
    named = {"port": port, **settings}
    flags = [text for name, value in named.items() for text in (_flag(name), str(value))]
    command = [sys.executable, "-m", "artesian", "serve", model, *flags, *switches]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(60)


def wait_until_ready(model: str, url: str) -> None:
    """Waits while the model is loaded, but not for ever."""
    until = time.monotonic() + START_S
    while not _is_ready(f"{url}/ready"):
        if time.monotonic() > until:
            raise RuntimeError(f"{model} is not served after {START_S:.0f} s")
        time.sleep(0.05)


class Turns:
    """One round: a history, and prompts that go on from it."""

    def __init__(self, seed: int, num_history: int, num_new: int) -> None:
        self._random = random.Random(seed)
        self._num_new = num_new
        self.history = self._tokens(num_history)
        self.other = self._tokens(num_history)

    def turn(self) -> Prompt:
        """The history and something new behind it."""
        return self.history + self._tokens(self._num_new)

    def _tokens(self, count: int) -> Prompt:
        return [self._random.randrange(FIRST_ID, LAST_ID) for _ in range(count)]


def measure(model: str, turns: Turns, room: str) -> dict[str, float]:
    """Seconds to the first token, by way. `room` is memory for one conversation, not for two."""
    found = {}
    with TemporaryDirectory(prefix="artesian-bench-") as directory:
        kept = {"context_cache_dir": Path(directory) / "kv"}
        with serving(model) as server:
            found[COMPUTED] = server.first_token_s(turns.turn())
            found["in memory"] = server.first_token_s(turns.turn())
        with serving(model, **kept) as server:
            server.first_token_s(turns.history)
        with serving(model, **kept) as server:
            found["from disk, after a restart"] = server.first_token_s(turns.turn())
            with serving(model, **kept) as second:
                server.first_token_s(turns.other)
                time.sleep(SAVE_S)
                turns.history = turns.other
                found["from disk, another server's"] = second.first_token_s(turns.turn())
        with serving(model, **kept, kv_cache_memory_bytes=room) as server:
            server.first_token_s(turns.turn())
            server.first_token_s([token + 1 for token in turns.history])
            found["from disk, pushed out of memory"] = server.first_token_s(turns.turn())
    return found | measure_pool(model, turns)


def measure_pool(model: str, turns: Turns) -> dict[str, float]:
    """The same with nothing on disk, and KV in a memory pool that outlives the servers."""
    name = f"artesian-bench-{os.getpid()}"
    found = {}
    try:
        with serving(model, context_pool=name) as server:
            server.first_token_s(turns.history)
        with serving(model, context_pool=name) as server:
            found["from the pool, after a restart"] = server.first_token_s(turns.turn())
            with serving(model, context_pool=name) as second:
                turns.history = [token + 2 for token in turns.history]
                server.first_token_s(turns.history)
                time.sleep(SAVE_S)
                found["from the pool, another server's"] = second.first_token_s(turns.turn())
    finally:
        Pool.remove(name)
    return found


def measure_llama(path: Path, turns: Turns) -> dict[str, float]:
    """llama.cpp's server on the same file: computing, its slot, and a slot saved and restored."""
    binary = llama_server.find_binary()
    if binary is None:
        return {}
    try:
        return _measure_llama(binary, path, turns)
    except httpx.HTTPError as error:
        console.print(f"llama.cpp's server gave up, so this round goes without it: {error}")
        return {}


def _measure_llama(binary: Path, path: Path, turns: Turns) -> dict[str, float]:
    window = len(turns.history) + len(turns.turn()) + 512
    found = {}
    with TemporaryDirectory(prefix="artesian-bench-") as directory:
        options = (binary, path, free_port(), window, Path(directory))
        with llama_server.serving(*options) as server:
            server.first_token_s([FIRST_ID] * 200)
            found[COMPUTED] = server.first_token_s(turns.turn(), reuse=False)
            found["in memory"] = server.first_token_s(turns.turn())
            server.save("slot")
        with llama_server.serving(*options) as server:
            server.first_token_s([FIRST_ID] * 200)
            restoring_s = server.restore_s("slot")
            first_s = server.first_token_s(turns.turn())
            found["from disk, after a restart"] = restoring_s + first_s
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=[model.name for model in MODELS])
    parser.add_argument("--history", type=int, default=4_000, help="tokens of the earlier turns")
    parser.add_argument("--new", type=int, default=100, help="tokens of the turn that is timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--room", default="128MiB", help="KV memory for hardly more than a history")
    options = parser.parse_args()
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    rows: list[Row] = []
    for model in MODELS:
        path = model.find()
        if model.name in options.models and path is not None:
            found = _measure_model(model.name, path, options)
            title = f"{model.title}: {options.history} tokens of history and {options.new} new ones"
            report.print_table(title, found, ["Artesian", COMPUTED, LLAMA], console)
            rows += found
    extra: dict[str, object] = {"rounds": options.rounds}
    console.print(f"written to {report.write('multiturn', rows, machine, extra)}")


def _measure_model(name: str, path: Path, options: argparse.Namespace) -> list[Row]:
    rounds: dict[str, list[float]] = {}
    peers: dict[str, list[float]] = {}
    for number in range(options.rounds):
        turns = Turns(number, options.history, options.new)
        for way, seconds in measure_llama(path, turns).items():
            peers.setdefault(way, []).append(seconds * 1e3)
        for way, seconds in measure(str(path), turns, options.room).items():
            rounds.setdefault(way, []).append(seconds * 1e3)
        console.print(f"{name}: round {number + 1} of {options.rounds}")
    subject = f"{name}, {options.history} + {options.new} tokens"
    return [_row(way, subject, rounds, peers.get(way)) for way in (COMPUTED, *TARGETS)]


def _row(way: str, subject: str, rounds: dict[str, list[float]], peer: list[float] | None) -> Row:
    value, computed = statistics.median(rounds[way]), statistics.median(rounds[COMPUTED])
    theirs = {} if peer is None else {LLAMA: statistics.median(peer)}
    return Row(
        subject=subject,
        metric=f"time to first token, {way}",
        value=value,
        unit="ms",
        baseline=None if way == COMPUTED else COMPUTED,
        baseline_value=None if way == COMPUTED else computed,
        better="less",
        target=TARGETS.get(way),
        values={"Artesian": value, COMPUTED: computed, **theirs},
        spread={"Artesian": (min(rounds[way]), max(rounds[way]))},
    )


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1.0).status_code == 200
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    main()
