"""`artesian pool` from outside."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from artesian.cli.app import run
from artesian.pool import Pool, list_pools
from tests.pool.conftest import Spawn, line


def command(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs `artesian pool` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "artesian", "pool", *arguments],
        input=given,
        capture_output=True,
        timeout=60,
    )


def test_values_go_in_and_come_out_byte_for_byte(pool: Pool, tmp_path: Path) -> None:
    value = bytes(range(256))
    assert command("put", pool.name, "k", given=value).returncode == 0
    assert command("get", pool.name, "k").stdout == value
    file = tmp_path / "value"
    assert run(["pool", "get", pool.address, "k", "-o", str(file)]) == 0
    assert file.read_bytes() == value
    assert run(["pool", "put", pool.name, "other", "-f", str(file), "-n", "space"]) == 0
    assert pool.store("space").get("other") == value
    assert run(["pool", "put", pool.name, "text", "grün", "--ttl", "60"]) == 0
    assert pool.store().get("text") == "grün".encode()
    assert pool.store().ttl("text") is not None


def test_scan_lists_keys(pool: Pool) -> None:
    store = pool.store("some")
    for key in ("grün", b"\xff\x00", "a\nb", "gr"):
        store.put(key, b"")
    lines = command("scan", pool.name, "-n", "some").stdout.decode().splitlines()
    assert sorted(lines) == sorted(["grün", "b'\\xff\\x00'", "b'a\\nb'", "gr"])
    raw = command("scan", pool.name, "-n", "some", "--prefix", "gr", "-0").stdout
    assert set(raw.split(b"\0")) == {"grün".encode(), b"gr", b""}
    assert command("scan", pool.name, "-n", "some", "--limit", "2").stdout.count(b"\n") == 2


def test_delete_counts(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    pool.store().put("a", b"")
    assert run(["pool", "delete", pool.name, "a", "b"]) == 1
    assert capsys.readouterr().out == "deleted 1 of 2\n"
    pool.store().put("a", b"")
    assert run(["pool", "delete", pool.name, "a"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["get", "NAME", "none"], 1, "'none' has no value in namespace 'default'"),
        (["get", "NAME", "k", "-n", "none"], 1, "has no namespace 'none'; there are: default"),
        (["get", "nosuch", "k"], 1, "there is no pool"),
        (["stat", "nosuch"], 1, "there is no pool"),
        (["top", "nosuch"], 1, "there is no pool"),
        (["remove", "nosuch"], 1, "there is no pool"),
        (["get", "a/b", "k"], 1, "is no address of a pool"),
        (["put", "NAME", "k", "v", "-f", "x"], 2, "leave one of them out"),
        (["put", "NAME", "k", "-f", "/no/where"], 1, "/no/where: No such file"),
        (["put", "NAME", "x" * 5000, "v"], 1, "key of 5000 bytes is too large"),
        (["put", "NAME", "k", "v", "--ttl", "-1"], 2, "ttl"),
        (["delete", "NAME"], 2, "no key"),
        (["serve", "NAME", "--size", "1TiB"], 1, "exists with other numbers"),
        (["serve", "nosuch", "--size", "10TiB"], 1, "does not fit into /dev/shm"),
        (["serve", "nosuch", "--size", "big"], 1, "size 'big'"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_wrong_use_is_an_error_of_one_line(
    pool: Pool,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pool.store()
    arguments = [pool.name if argument == "NAME" else argument for argument in arguments]
    assert run(["pool", *arguments]) == code
    captured = capsys.readouterr()
    error, *hints = captured.err.strip().split("\n")
    assert error.startswith("error: ")
    assert message in captured.err
    assert all(hint.startswith("hint: ") for hint in hints)
    assert "nosuch" not in list_pools()


def test_stat(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    store = pool.store("things", quota="4MiB", ttl=30)
    store.put("k", b"v")
    assert run(["pool", "stat", pool.name]) == 0
    out = capsys.readouterr().out
    assert str(os.getpid()) in out
    assert "things" in out
    assert "4 MiB" in out
    assert run(["pool", "stat", pool.name, "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert stats["name"] == pool.name
    assert stats["nodes"][0]["state"] == "live"
    [client] = stats["clients"]
    assert (client["pid"], client["is_alive"]) == (os.getpid(), True)
    [known] = [known for known in stats["namespaces"] if known["name"] == "things"]
    assert (known["ttl_s"], known["quota_bytes"]) == (30, 4 << 20)


def test_list(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pool", "list"]) == 0
    assert pool.name in capsys.readouterr().out
    assert run(["pool", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[pool.name]["num_clients"] == 1


def test_top_shows_who_works(pool: Pool, spawn: Spawn, capsys: pytest.CaptureFixture[str]) -> None:
    child = spawn(
        """
        store = Pool(name).store()
        store.put("k", b"v")
        print("ready", flush=True)
        while True:
            store.get("k")
        """
    )
    line(child)
    assert run(["pool", "top", pool.name, "--interval", "0.6", "--count", "2"]) == 0
    rows = [row.split() for row in capsys.readouterr().out.split("\n")]
    [row] = [row for row in rows if len(row) > 5 and row[1] == str(child.pid)][-1:]
    assert "busy" in row
    assert int(row[-2].replace(",", "")) > 0


def serve(name: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts `artesian pool serve` with a small pool."""
    return subprocess.Popen(
        [sys.executable, "-m", "artesian", "pool", "serve", name, "--size", "32MiB", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_serve_keeps_a_pool_until_it_is_told_to_stop(name: str) -> None:
    server = serve(name)
    try:
        first = line(server)
        assert first.startswith(f"created shm://{name}: 1 nodes of 32 MiB, 1 copies")
        with Pool(name, create=False) as pool:
            pool.store().put("k", b"v")
            assert server.pid in {client.pid for client in pool.stats().clients}
        server.send_signal(signal.SIGTERM)
        out, _ = server.communicate(timeout=30)
        assert f"artesian pool remove {name}" in out.split("\n")[-2]
        assert server.returncode == 0
    finally:
        server.kill()
        server.communicate()
    with Pool(name, create=False) as pool:
        assert pool.store().get("k") == b"v"
    assert run(["pool", "remove", name]) == 0
    assert run(["pool", "remove", name, "--missing-ok"]) == 0


def test_serve_can_take_the_pool_with_it(name: str) -> None:
    server = serve(name, "--remove-at-exit")
    line(server)
    server.send_signal(signal.SIGINT)
    out, _ = server.communicate(timeout=30)
    assert server.returncode == 0
    assert f"removed the pool {name}" in out
    assert name not in list_pools()


def test_serve_ends_when_its_pool_is_removed(name: str) -> None:
    server = serve(name)
    line(server)
    Pool.remove(name)
    _, error = server.communicate(timeout=30)
    assert server.returncode == 1
    assert error.startswith("error: there is no pool")
