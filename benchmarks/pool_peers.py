"""redis and memcached on this host, over Unix sockets, with their own load generators."""

import csv
import io
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSTALL = "apt-get install redis-server memcached libmemcached-tools"
PIPELINE = 16
PIPELINE_CLIENTS = (1, 10, 50)


def missing(program: str) -> str | None:
    """How to get a program that is not installed."""
    return None if shutil.which(program) else f"{program} is not installed: {INSTALL}"


@contextmanager
def redis(directory: Path) -> Iterator[Path]:
    """The socket of a redis that stores nothing on disk."""
    path = directory / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", ""]
    with _server([*command, "--appendonly", "no"], path):
        yield path


@contextmanager
def memcached(directory: Path) -> Iterator[Path]:
    """The socket of a memcached that takes large values."""
    path = directory / "memcached.sock"
    command = ["memcached", "-s", str(path), "-m", "1024", "-I", "8m", "-u", "root"]
    with _server(command, path):
        yield path


@contextmanager
def _server(command: list[str], path: Path) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(path, process)
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
                return
            except OSError:
                time.sleep(0.05)
        if process.poll() is not None:
            break
    raise RuntimeError(f"{process.args!r} does not answer")


def redis_rates(
    path: Path, keys: int, value_bytes: int, requests: int, clients: int = 1, pipeline: int = 1
) -> dict[str, float]:
    """What `redis-benchmark` says of "set" and "get": operations per second, and latencies in
    microseconds, as "get p50" and so on.
    """
    command = ["redis-benchmark", "-s", str(path), "--csv", "-t", "set,get", "-r", str(keys)]
    sizes = ["-d", str(value_bytes), "-n", str(requests), "-c", str(clients), "-P", str(pipeline)]
    found = {}
    for row in csv.DictReader(io.StringIO(_output([*command, *sizes]))):
        name = row["test"].lower()
        found[name] = float(row["rps"])
        for quantile in ("p50", "p99"):
            found[f"{name} {quantile}"] = float(row[f"{quantile}_latency_ms"]) * 1e3
    return found


MEMBER = "key:__rand_int__"
"""What `redis-benchmark` writes a random number of 12 digits into."""
MEAN_SCAN = 50


def redis_fill_sorted(path: Path, keys: int, value_bytes: int) -> None:
    """Puts about so many members, that hold their values, into one sorted set."""
    _redis_command(path, 3 * keys, 3 * keys, PIPELINE, _zadd(value_bytes))


def redis_sorted_rates(path: Path, keys: int, value_bytes: int, requests: int) -> dict[str, float]:
    """Operations per second of one client that does not pipeline: "scan" of as many members as
    YCSB-E reads on average, and "insert".
    """
    scan = ["zrangebylex", "ordered", f"[{MEMBER}", "+", "limit", "0", str(MEAN_SCAN)]
    return {
        "scan": _redis_command(path, 3 * keys, requests, 1, scan),
        "insert": _redis_command(path, 3 * keys, requests, 1, _zadd(value_bytes)),
    }


def _zadd(value_bytes: int) -> list[str]:
    return ["zadd", "ordered", "0", MEMBER + "v" * value_bytes]


def _redis_command(
    path: Path, keys: int, requests: int, pipeline: int, command: list[str]
) -> float:
    """Operations per second of one client."""
    sizes = ["-n", str(requests), "-c", "1", "-P", str(pipeline), "-r", str(keys)]
    output = _output(["redis-benchmark", "-s", str(path), "--csv", *sizes, *command])
    return float(next(csv.DictReader(io.StringIO(output)))["rps"])


def memcached_rates(path: Path, requests: int) -> dict[str, float]:
    """Operations per second of `memcslap` with one client, for "set" and "get"; its values have a
    size of their own, see [`memcached_value_bytes`].
    """
    rates = {}
    for test in ("set", "get"):
        command = ["memcslap", "-s", str(path), "--concurrency=1", f"--test={test}"]
        output = _output([*command, f"--execute-number={requests}"])
        seconds = re.search(rf"Time to {test} .*threads:\s+([\d.]+) seconds", output)
        if seconds:
            rates[test] = requests / float(seconds[1])
    return rates


def memcached_value_bytes(path: Path) -> float:
    """Mean bytes that were received for a key that was set, key and value."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"stats\r\n")
        text = b""
        while not text.endswith(b"END\r\n"):
            text += client.recv(65536)
    stats = dict(line.split()[1:3] for line in text.decode().splitlines() if line[:4] == "STAT")
    return float(stats["bytes_read"]) / max(1.0, float(stats["cmd_set"]))


def mix(rates: dict[str, float], reads: float, writes: float) -> float:
    """Operations per second of a mixture: so many reads and writes make one operation."""
    return 1 / (reads / rates["get"] + writes / rates["set"])


def _output(command: list[str]) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return done.stdout
