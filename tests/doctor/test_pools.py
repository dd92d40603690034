"""Findings about pools of shared memory."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from artesian.doctor import pools
from artesian.pool import Pool


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{os.getpid()}-{secrets.token_hex(4)}"
    Pool(name, size="16MiB").close()
    yield name
    if name in pools.check_pools().detail:
        Pool.remove(name)


def test_a_pool_that_nobody_uses(name: str) -> None:
    finding = pools.check_pools()
    assert finding.status == "warning"
    assert "no process uses" in finding.detail
    assert name in finding.detail
    assert "artesian pool remove" in finding.hint
    with Pool(name):
        assert name not in pools.check_pools().detail
    Pool.remove(name)
    assert name not in pools.check_pools().detail


def test_a_node_that_is_no_pool(name: str) -> None:
    [node] = Path("/dev/shm").glob(f"artesian.*.{name}.node0")
    with node.open("r+b") as file:
        file.write(bytes(4096))
    finding = pools.check_pools()
    assert finding.status == "warning"
    assert f"cannot be used: {name}" in finding.detail


def test_little_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pools.check_shared_memory().detail.endswith("/dev/shm")
    monkeypatch.setattr(pools, "MIN_SHARED_BYTES", 1 << 60)
    finding = pools.check_shared_memory()
    assert finding.status == "warning"
    assert "--shm-size" in finding.hint
    monkeypatch.setattr(pools, "SHARED_MEMORY", tmp_path / "none")
    assert "No such file" in pools.check_shared_memory().detail
