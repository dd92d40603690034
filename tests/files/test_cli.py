"""`artesian files` from outside."""

import json
from pathlib import Path

import pytest

from artesian.cli.app import run
from artesian.files.stores import close_all
from tests.files.conftest import write


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands look."""
    path = tmp_path / "store"
    monkeypatch.setenv("ARTESIAN_FILES_DIR", str(path))
    return path


def stat(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    close_all()
    capsys.readouterr()
    assert run(["files", "stat", "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_warm_stat_evict(store: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "sub").mkdir()
    for name in ("a", "b", "sub/c"):
        write(source / name, 1000, age_s=0.15)
    assert run(["files", "warm", str(source)]) == 0
    assert "3 files, 3 KiB; fetched 3 of 3 blocks" in capsys.readouterr().out
    assert run(["files", "warm", f"file://{source}"]) == 0
    assert "fetched 0 of 3 blocks" in capsys.readouterr().out
    report = stat(capsys)
    assert report["num_files"] == 3
    assert report["num_processes"] == 0
    assert report["places"] == [
        {"label": "disk", "used_bytes": 3 * 4096, "capacity_bytes": 10 << 30, "num_blocks": 3}
    ]
    assert run(["files", "evict", str(source / "sub")]) == 0
    assert "1 blocks removed" in capsys.readouterr().out
    assert run(["files", "evict", "--all"]) == 0
    assert stat(capsys)["places"] == [
        {"label": "disk", "used_bytes": 0, "capacity_bytes": 10 << 30, "num_blocks": 0}
    ]


def test_pins_and_quotas(store: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(source / "a", 1000, age_s=0)
    path = str(source / "a")
    assert run(["files", "pin", path]) == 0
    assert run(["files", "quota", str(source), "1GiB"]) == 0
    assert run(["files", "quota", path, "2MiB"]) == 0
    rules = [
        {"path": f"file://{source}", "is_pinned": False, "quota_bytes": 1 << 30},
        {"path": f"file://{path}", "is_pinned": True, "quota_bytes": 2 << 20},
    ]
    assert stat(capsys)["rules"] == rules
    assert run(["files", "stat"]) == 0
    assert f"file://{path}: pinned, at most 2 MiB" in capsys.readouterr().out
    assert run(["files", "pin", path, "--off"]) == 0
    assert run(["files", "quota", path, "none"]) == 0
    assert run(["files", "quota", str(source), "none"]) == 0
    assert stat(capsys)["rules"] == []


def test_top_and_explain(store: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(source / "a", 1000)
    assert run(["files", "warm", str(source)]) == 0
    close_all()
    assert run(["files", "top", "--interval", "0.01", "--count", "1"]) == 0
    assert run(["files", "explain", str(source)]) == 0
    output = capsys.readouterr().out
    assert "folder" in output
    assert f"file://{source}: " in output
    assert run(["files", "explain", str(source), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == f"file://{source}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stat"], "no store of files"),
        (["explain", "/x"], "no store of files"),
        (["evict", "/x"], "no store of files"),
        (["evict"], "name paths, or say --all"),
        (["warm", "/does/not/exist"], "no such file"),
        (["warm", "nonsense://x"], "nonsense"),
        (["warm", "/x", "--option", "anon"], "NAME=VALUE"),
        (["quota", "/x", "much"], "size 'much'"),
    ],
)
def test_wrong_uses_are_said(
    store: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(["files", *arguments]) in (1, 2)
    assert message in capsys.readouterr().err
