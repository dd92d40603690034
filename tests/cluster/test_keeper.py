"""Whole clusters of real processes with the toy engine in them."""

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from artesian.cli.app import run as run_command
from artesian.cluster.run_directory import default_parent, start_time
from artesian.config import EngineConfig, ServerConfig
from artesian.kvcache.region import RegionArena, region_names, remove_region
from artesian.pool import Pool, list_pools, pool_stats
from tests.api.conftest import RunningServer, launch, until
from tests.api.test_lifecycle import run_to_end
from tests.worker.test_supervisor import alive
from tests.worker.toy import continuation

COMPLETIONS = "/v1/completions"
POOL_BYTES = 32 << 20


class Cluster:
    """A running cluster, by its own description."""

    def __init__(self, server: RunningServer, name: str) -> None:
        self.server, self.name = server, name

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.server.http.get("/v1/cluster").json()
        return status

    def workers(self) -> dict[str, dict[str, Any]]:
        return {worker["id"]: worker for worker in self.status()["workers"]}

    def pids(self) -> dict[str, int]:
        return {each["id"]: each["pid"] for each in self.workers().values() if each["pid"]}

    def front_pid(self) -> int:
        keeper = self.server.process.pid
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        (pid,) = {int(child) for child in children if b".front" in cmdline(int(child))}
        return pid

    def leftovers(self) -> list[Path]:
        """What the cluster has outside its processes."""
        shared = Path("/dev/shm").glob(f"artesian.{os.geteuid()}.*{self.name}-*")
        return [*shared, *default_parent().glob(self.name)]

    def ask(self, prompt: str = "abc", num_tokens: int = 20) -> str:
        body = {"prompt": prompt, "max_tokens": num_tokens}
        response = self.server.http.post(COMPLETIONS, json=body)
        assert response.status_code == 200, response.text
        text: str = response.json()["choices"][0]["text"]
        return text


def cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, model: str = "toy:2", **settings: Any) -> Cluster:
    name = settings.setdefault("cluster_name", f"test-{os.getpid()}")
    if "memory_nodes" in settings:
        settings.setdefault("context_pool_bytes", POOL_BYTES)
    return Cluster(launch(stack, model, **settings), name)


def test_a_cluster_serves_and_leaves_nothing(stack: ExitStack) -> None:
    cluster = start(stack, prefill=1, decode=2, memory_nodes=2)
    assert cluster.ask() == continuation("abc", 20)
    status = cluster.status()
    assert [worker["role"] for worker in status["workers"]] == ["prefill", "decode", "decode"]
    assert {worker["state"] for worker in status["workers"]} == {"ready"}
    assert [node["state"] for node in status["pool_nodes"]] == ["live", "live"]
    assert status["pool_capacity_bytes"] >= POOL_BYTES
    body = {"prompt": "x" * 100 + "abc", "max_tokens": 5}
    usage = cluster.server.http.post(COMPLETIONS, json=body).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1
    pids = [*cluster.pids().values(), cluster.front_pid()]
    assert cluster.leftovers()
    assert cluster.server.stop() == 0
    assert not any(alive(pid) for pid in pids)
    assert cluster.leftovers() == []


def test_a_killed_worker_is_replaced(stack: ExitStack) -> None:
    cluster = start(stack, both=2)
    pid = cluster.pids()["w1"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: cluster.pids().get("w1", pid) != pid)
    until(lambda: cluster.workers()["w1"]["state"] == "ready")
    assert cluster.workers()["w1"]["generation"] == 2
    assert cluster.server.metric("artesian_worker_restarts_total") == 1
    assert cluster.ask() == continuation("abc", 20)


def test_a_killed_front_leaves_the_workers(stack: ExitStack) -> None:
    cluster = start(stack, both=2)
    pids = cluster.pids()
    for generation in (2, 3):
        os.kill(cluster.front_pid(), signal.SIGKILL)
        until(lambda: answers(cluster))
        assert cluster.status()["front_generation"] == generation
        assert cluster.pids() == pids
        assert cluster.ask() == continuation("abc", 20)
    assert not (default_parent() / cluster.name / "front-1").exists()


def answers(cluster: Cluster) -> bool:
    try:
        return cluster.server.http.get("/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_requests_finish_before_a_cluster_ends(stack: ExitStack) -> None:
    cluster = start(stack, "toy:10", prefill=1, decode=1)
    body = {"prompt": "abc", "max_tokens": 150, "stream": True}
    with cluster.server.http.stream("POST", COMPLETIONS, json=body) as stream:
        lines = stream.iter_lines()
        first = next(lines)
        cluster.server.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(cluster.server.url + "/ready").status_code == 503)
        rest = [first, *lines]
    assert sum(line.startswith('data: {"id"') for line in rest) >= 100 and "data: [DONE]" in rest
    assert cluster.server.process.wait(20) == 0
    assert cluster.leftovers() == []


def test_a_second_signal_ends_at_once(stack: ExitStack) -> None:
    cluster = start(stack, "toy:10", both=2, drain_timeout_s=60)
    body = {"prompt": "abc", "max_tokens": 4000, "stream": True}
    with cluster.server.http.stream("POST", COMPLETIONS, json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        cluster.server.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(cluster.server.url + "/ready").status_code == 503)
        cluster.server.process.send_signal(signal.SIGTERM)
        rest = "".join(lines)
    assert "shutting down" in rest
    assert cluster.server.process.wait(20) == 0
    assert cluster.leftovers() == []


def test_a_killed_keeper_takes_all_with_it_and_the_next_one_sweeps(stack: ExitStack) -> None:
    cluster = start(stack, prefill=1, decode=1, memory_nodes=1)
    pids = [*cluster.pids().values(), cluster.front_pid()]
    # Toys have none; others are not the cluster's to remove.
    region, other = f"{cluster.name}-w1-1", f"{cluster.name}-x-w1-1"
    arenas = [RegionArena(name, 16, 4096, fingerprint="toys") for name in (region, other)]
    stack.callback(arenas.clear)
    os.kill(pids[0], signal.SIGSTOP)  # does not notice
    started = start_time(pids[0])
    cluster.server.process.kill()
    until(lambda: not any(alive(pid) for pid in pids[1:]))
    assert alive(pids[0]) and cluster.leftovers()
    second = start(stack, both=1)
    assert start_time(pids[0]) != started
    assert region not in region_names() and other in region_names()
    remove_region(other)
    assert not Path(f"/dev/shm/artesian.{os.geteuid()}.{cluster.name}-pool.node0").exists()
    assert second.ask() == continuation("abc", 20)
    second.server.stop()
    assert second.leftovers() == []


def test_two_clusters_of_one_name_exclude_each_other(stack: ExitStack) -> None:
    cluster = start(stack, both=1)
    status, log = run_to_end(
        EngineConfig(model="toy"),
        ServerConfig(port=0, ui=False, both=1, cluster_name=cluster.name),
    )
    assert status == 1 and f"a cluster named {cluster.name} is running already" in log
    assert cluster.ask() == continuation("abc", 20)
    other = start(stack, both=1, cluster_name=f"{cluster.name}-2")
    assert other.ask() == continuation("abc", 20)


def test_a_pool_of_ones_own_stays(stack: ExitStack) -> None:
    name = f"test-own-{os.getpid()}"
    cluster = start(stack, both=1, memory_nodes=2, context_pool=f"shm://{name}")
    stack.callback(Pool.remove, name)
    assert cluster.status()["pool"] is None, "it is not the cluster's"
    assert len(pool_stats(name).nodes) == 2
    assert cluster.server.stop() == 0
    assert cluster.leftovers() == [] and name in list_pools()


def test_a_model_that_cannot_be_loaded_ends_the_cluster() -> None:
    config = ServerConfig(port=0, ui=False, prefill=1, decode=1, cluster_name="test-bad")
    status, log = run_to_end(EngineConfig(model="toy:bad"), config)
    assert status == 1
    assert log.rstrip().endswith("artesian: error: toy:bad: no such model")
    assert "Traceback" not in log
    assert not (default_parent() / "test-bad").exists()


def test_a_port_that_is_taken_ends_the_cluster() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = ServerConfig(port=port, ui=False, both=2)
        status, log = run_to_end(EngineConfig(model="toy"), config)
    assert status == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in log


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="prefill needs workers that decode"):
        ServerConfig(prefill=1)
    with pytest.raises(ValueError, match="more than 64 workers"):
        ServerConfig(decode=60, both=5)
    with pytest.raises(ValueError, match="pin_workers is for clusters"):
        ServerConfig(pin_workers=True)
    assert not ServerConfig().is_cluster
    assert ServerConfig(memory_nodes=1).num_both == 1


def command(capsys: pytest.CaptureFixture[str], cluster: Cluster, *arguments: str) -> str:
    status = run_command(["cluster", *arguments, "--url", cluster.server.url])
    out, err = capsys.readouterr()
    assert status == 0, err
    return out


def test_workers_come_go_and_change_roles(
    stack: ExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = start(stack, prefill=1, decode=1, memory_nodes=1)
    assert "w3 is starting" in command(capsys, cluster, "add", "decode")
    until(lambda: cluster.workers()["w3"]["state"] == "ready")
    assert "w1 is a decode worker" in command(capsys, cluster, "role", "w1", "decode")
    assert "nothing to do" in command(capsys, cluster, "drain", "w2")
    table = command(capsys, cluster, "status")
    assert "draining" in table and "w3.1" in table and f"shm://{cluster.name}-pool" in table
    assert cluster.ask() == continuation("abc", 20)
    pid = cluster.pids()["w2"]
    assert "w2 is gone" in command(capsys, cluster, "remove", "w2")
    assert not alive(pid) and list(cluster.workers()) == ["w1", "w3"]
    # It is the keeper's word: the next front knows the same.
    os.kill(cluster.front_pid(), signal.SIGKILL)
    until(lambda: answers(cluster))
    assert [w["role"] for w in cluster.workers().values()] == ["decode", "decode"]
    command(capsys, cluster, "remove", "w1")
    assert run_command(["cluster", "remove", "w3", "--url", cluster.server.url]) == 1
    assert "w3 is the last worker" in capsys.readouterr().err
    assert run_command(["cluster", "drain", "w9", "--url", cluster.server.url]) == 1
    assert "there is no worker 'w9'; there are: w3" in capsys.readouterr().err


def test_a_drain_lets_requests_finish(stack: ExitStack, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = start(stack, "toy:10", both=2)
    body = {"prompt": "abc", "max_tokens": 100, "stream": True}
    with cluster.server.http.stream("POST", COMPLETIONS, json=body) as stream:
        lines = stream.iter_lines()
        first = next(lines)
        busy = [w["id"] for w in cluster.workers().values() if w["num_requests"]]
        command(capsys, cluster, "remove", busy[0])
        rest = [first, *lines]
    assert "data: [DONE]" in rest and not any("error" in line for line in rest)
    assert len(cluster.workers()) == 1


def test_one_worker_is_no_cluster(stack: ExitStack, capsys: pytest.CaptureFixture[str]) -> None:
    server = launch(stack, "toy")
    (worker,) = server.http.get("/v1/cluster").json()["workers"]
    assert worker["role"] == "both" and worker["pid"] == server.worker_pid()
    assert run_command(["cluster", "drain", "w1", "--url", server.url]) == 1
    assert "this server has one worker" in capsys.readouterr().err


def test_changes_need_the_key_and_this_host(stack: ExitStack) -> None:
    cluster = start(stack, both=2, api_key="secret", host="0.0.0.0")
    url = cluster.server.url.replace("0.0.0.0", "127.0.0.1")
    drain = "/v1/cluster/workers/w1/drain"
    assert httpx.post(url + drain).status_code == 401
    assert httpx.get(url + "/v1/cluster").status_code == 401
    key = {"Authorization": "Bearer secret"}
    address = own_address()
    if address is not None:
        elsewhere = url.replace("127.0.0.1", address)
        assert httpx.get(elsewhere + "/v1/cluster", headers=key).status_code == 200
        assert httpx.post(elsewhere + drain, headers=key).status_code == 403
    assert httpx.post(url + drain, headers=key).status_code == 200


def own_address() -> str | None:
    """An address of this host that is not of the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address: str = probe.getsockname()[0]
    return None if address.startswith("127.") else address


def test_a_long_directory_for_sockets(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as directory:
        long = Path(directory) / ("x" * 80)
        long.mkdir()
        monkeypatch.setenv("TMPDIR", str(long))
        assert start(stack, both=1).ask() == continuation("abc", 20)
