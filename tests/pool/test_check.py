"""Checks find what is wrong, and repair what can be."""

import json
import time
from pathlib import Path

import pytest

from artesian.cli.app import run
from artesian.pool import Pool
from tests.pool.conftest import Spawn, line
from tests.pool.test_processes import WRITER, wait_until


def test_a_pool_in_use_is_clean(pool: Pool) -> None:
    store = pool.store()
    for number in range(1000):
        store.put(str(number), bytes(number))
    for number in range(0, 1000, 3):
        store.delete(str(number))
    report = pool.check()
    assert report.is_clean, "\n".join(map(str, report.findings))
    assert report.is_exact
    assert report.num_keys >= 666
    assert report.leaked_bytes == 0
    # The client goes on.
    assert store.get("1") == bytes(1)
    store.put("1", b"2")


def test_a_pool_is_clean_after_deaths(name: str, spawn: Spawn) -> None:
    with Pool(name, size="48MiB", nodes=2, replicas=2, lease_ms=500) as pool:
        for letter in "abcd":
            child = spawn(WRITER, letter)
            line(child)
            time.sleep(0.15)
            child.kill()
        wait_until(name, set())
        report = pool.check(repair=True)
        left = [finding for finding in report.findings if finding.repaired is None]
        assert report.is_clean, "\n".join(map(str, left))
        again = pool.check()
        assert again.is_clean, "\n".join(map(str, again.findings))
        assert again.leaked_bytes == 0


def test_damage_is_found_and_told(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Pool(name, size="32MiB") as pool:
        pool.store().put("k", b"needle" * 100)
    assert run(["pool", "check", name]) == 0
    assert "clean" in capsys.readouterr().out
    [node] = Path("/dev/shm").glob(f"artesian.*.{name}.node0")
    content = node.read_bytes()
    with node.open("r+b") as file:
        file.seek(content.index(b"needle" * 100))
        file.write(b"haystack")
    assert run(["pool", "check", name]) == 1
    out = capsys.readouterr().out
    assert "error: object at" in out
    assert "not clean: --repair" in out
    assert run(["pool", "check", name, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["findings"][0]["what"] == "object"
    with Pool(name) as pool:
        pool.store().put("k", b"new")
    assert run(["pool", "check", name, "--repair"]) == 0
