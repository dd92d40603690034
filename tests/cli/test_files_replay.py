"""`artesian files replay`."""

import json
import lzma
from pathlib import Path

import pytest

from artesian.cli.app import run


def write_trace(path: Path, epochs: int = 5, files: int = 60) -> Path:
    rows = ["time_s,worker,file,offset,length"]
    for epoch in range(epochs):
        for number in range(files):
            rows.append(f"{epoch * files + number},1,d/f{number:03},0,1000000")
    with lzma.open(path, "wt") as file:
        file.write("\n".join(rows) + "\n")
    return path


def test_a_scan_that_comes_again_is_hit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_trace(tmp_path / "job.csv.xz")
    assert run(["files", "replay", str(path), "--capacity", "50%", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["data_bytes"] == 60_000_000
    assert found["capacity_bytes"] == 30_000_000
    assert found["lru"]["hits, of blocks"] == 0
    assert found["patterns"]["hits, of blocks"] > 0.3
    assert ["trace://data/d", "sequential"] in [unit[:2] for unit in found["units"]]
    assert run(["files", "replay", str(path), "--capacity", "20MB"]) == 0
    assert "Belady" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n", [], "expected a table with columns file, offset and length"),
        ("file,offset,length\nx,0,much\n", [], "line 2: invalid literal"),
        ("file,offset,length\n", [], "has no reads"),
        ("file,offset,length\nx,0,9\n", ["--capacity", "0%"], "capacity '0%'"),
        ("file,offset,length\nx,0,9\n", ["--bandwidth", "fast"], "bandwidth 'fast'"),
    ],
)
def test_what_cannot_be_replayed_is_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    options: list[str],
    message: str,
) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    assert run(["files", "replay", str(path), *options]) == 2
    assert message in capsys.readouterr().err
