"""Pools as files."""

from pathlib import Path

import pytest

from artesian.cli.app import run
from artesian.pool import Pool, PoolUsageError, verify_snapshot


@pytest.fixture
def other(name: str) -> str:
    return f"{name}-other"


def test_everything_comes_back(pool: Pool, other: str, tmp_path: Path) -> None:
    store = pool.store("space", ttl=60)
    for number in range(500):
        store.put(str(number), bytes(number))
    pool.store().put("k", b"v")
    tree = pool.tree("tree")
    tree.put("b", b"2")
    tree.put("a", bytes(5000))
    pool.cache("cache", "1MiB").put("left", b"out")
    saved = pool.snapshot(tmp_path / "file")
    assert (saved.num_values, saved.num_namespaces_left_out) == (503, 1)
    assert not saved.is_frozen
    assert verify_snapshot(tmp_path / "file").num_values == 503
    try:
        with Pool(other, size="32MiB") as copy:
            loaded = copy.restore(tmp_path / "file")
            assert loaded.num_values == 503
            assert list(copy.tree("tree").range()) == [(b"a", bytes(5000)), (b"b", b"2")]
            restored = copy.store("space")
            assert all(restored.get(str(number)) == bytes(number) for number in range(500))
            assert copy.store().get("k") == b"v"
            ttl = restored.ttl("1")
            assert ttl is not None
            assert ttl <= 60
    finally:
        Pool.remove(other)


def test_a_frozen_one(pool: Pool, tmp_path: Path) -> None:
    pool.store().put("k", b"v")
    pool.tree("tree").put("k", b"v")
    saved = pool.snapshot(tmp_path / "file", frozen=True)
    assert saved.is_frozen
    assert saved.num_values == 2
    assert pool.store().get("k") == b"v"


def test_a_damaged_file_changes_nothing(pool: Pool, tmp_path: Path) -> None:
    store = pool.store()
    store.put("k", b"v" * 1000)
    file = tmp_path / "file"
    pool.snapshot(file)
    store.put("k", b"new")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for use in (pool.restore, verify_snapshot):
        with pytest.raises(PoolUsageError, match=str(file)):
            use(file)
    assert store.get("k") == b"new"


def test_the_commands(
    pool: Pool, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool.store().put("k", b"v")
    file = str(tmp_path / "file")
    assert run(["pool", "snapshot", pool.name, file]) == 0
    assert capsys.readouterr().out.startswith("saved 1 values (2 B) in")
    assert run(["pool", "restore", other, file, "--verify-only"]) == 0
    assert capsys.readouterr().out.startswith("the file is whole: 1 values")
    assert run(["pool", "restore", other, file]) == 1
    assert "there is no pool" in capsys.readouterr().err
    try:
        assert run(["pool", "restore", other, file, "--size", "16MiB"]) == 0
        with Pool(other) as copy:
            assert copy.store().get("k") == b"v"
    finally:
        Pool.remove(other)
    assert run(["pool", "restore", pool.name, "/no/where"]) == 1
    assert "/no/where" in capsys.readouterr().err
    assert run(["pool", "snapshot", pool.name, "/no/where/file"]) == 1
    assert "/no/where/file" in capsys.readouterr().err
