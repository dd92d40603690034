"""Directories of blocks, looked at and emptied."""

import json
import time
from pathlib import Path

import pytest

from artesian.cli.app import run
from artesian.context import care
from artesian.pool import list_pools
from tests.context.test_context_cache import PROMPT, close, context_of, expected
from tests.engine.toy import generate, greedy, make_engine


def test_a_directory_is_looked_at_and_emptied_under_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = make_engine(num_blocks=40, context_dir=tmp_path)
    generate(engine, PROMPT, greedy())
    engine.close()
    report = care.look(tmp_path)
    assert report.num_blocks == context_of(engine).shelves[0].stats.num_saved_blocks > 0
    assert report.used_bytes >= report.num_blocks * 8192
    assert report.oldest_s is not None and 0 <= time.time() - report.oldest_s < 3600
    assert run(["cache", "stat", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}: {report.num_blocks} blocks, ")
    assert run(["cache", "flush", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"deleted {report.num_blocks} blocks\n"
    assert run(["cache", "stat", str(tmp_path), "--json"]) == 0
    (empty,) = json.loads(capsys.readouterr().out)
    assert (empty["num_blocks"], empty["oldest_s"]) == (0, None)
    for start in range(6):  # pushes the first prompt out of memory
        generate(engine, [start, *PROMPT], greedy())
    assert generate(engine, PROMPT, greedy()).tokens == expected(PROMPT)
    close(engine)


def test_other_directories_are_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["cache", "flush", str(tmp_path)]) == 2
    assert "is no context cache" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "FORMAT").write_text("something else\n")
    assert run(["cache", "stat", str(tmp_path)]) == 2
    assert "no disk tier of this version" in capsys.readouterr().err


def test_a_pool_is_looked_at_and_emptied(
    pool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = make_engine(context_dir=tmp_path, context_pool=pool)
    generate(engine, PROMPT, greedy())
    engine.close()
    address = f"shm://{pool}"
    assert run(["cache", "stat", address, str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{address}: 19 blocks, ") and lines[0].endswith("in memory")
    assert lines[2].startswith(f"{tmp_path}: 19 blocks, ") and lines[2].endswith("on the disk")
    assert run(["cache", "flush", address]) == 0
    assert capsys.readouterr().out == "deleted 19 blocks\n"
    assert run(["cache", "stat", address, str(tmp_path), "--json"]) == 0
    reports = json.loads(capsys.readouterr().out)
    assert [(report["tier"], report["num_blocks"]) for report in reports] == [
        ("host", 0),
        ("disk", 19),
    ]
    close(engine)
    assert run(["cache", "stat", "shm://no-such-pool"]) == 2
    assert "there is no pool" in capsys.readouterr().err
    assert "no-such-pool" not in list_pools()
