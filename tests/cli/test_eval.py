"""`artesian eval` on a tiny model."""

import json
from pathlib import Path

import pytest

from artesian.cli.app import run
from tests.loader.gguf_files import gguf, llama_metadata, llama_tensors, write

pytest.importorskip("artesian._core", reason="the kernels are not built")


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write(tmp_path / "m.gguf", gguf(llama_metadata(), llama_tensors())))


def test_paths_as_json(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("ab ab cab " * 20)
    arguments = ["eval", model, str(text), "--window-tokens", "32", "--num-threads", "1", "--json"]
    assert run(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    first, stored, *_ = printed["paths"]
    assert "difference_nats" not in first
    assert stored["difference_nats"] == pytest.approx(0, abs=1e-6)
    assert 1 < first["perplexity"] < 20


def test_table_and_default_text(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", model, "--num-tokens", "50", "--num-threads", "1"]) == 0
    assert "float32 arithmetic" in capsys.readouterr().out


def test_text_that_cannot_be_used(model: str, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(b"\xff\xfe\x00")
    assert run(["eval", model, str(text)]) == 2
    text.write_text("")
    assert run(["eval", model, str(text)]) == 2
    assert run(["eval", model, str(tmp_path / "absent.txt")]) == 1


def test_long_contexts(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("ab ab cab " * 40)
    sizes = ["--context-tokens", "40", "--num-late", "8", "--num-passages", "1"]
    ways = ["--ways", "window:64", "progressive:0.9"]
    plot = tmp_path / "plot.svg"
    arguments = ["eval", "long-context", model, str(text), *sizes, *ways, "--num-threads", "1"]
    assert run([*arguments, "--tasks", "none", "--plot", str(plot)]) == 0
    printed = capsys.readouterr().out
    assert "window:64" in printed and "weight kept" in printed
    assert plot.read_text().count("<circle") == 3
    assert run([*arguments, "--tasks", "none", "--json"]) == 0
    dense, window, _ = json.loads(capsys.readouterr().out)["ways"]
    # So little context is attended to as a whole in every way.
    assert window["divergence_nats"] < 1e-6 and window["groups_kept"] == 1
    assert dense["perplexity"] == pytest.approx(window["perplexity"])


def test_long_contexts_that_cannot_be(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["eval", "long-context", model, "--num-threads", "1"]
    short = ["--context-tokens", "9", "--num-late", "9", "--tasks", "none"]
    for wrong, message in (
        (["--context-tokens", "40"], "at most 128"),
        (["--tasks", "riddle"], "no task 'riddle'"),
        (["--num-rounds", "0", "--plot", "plot.svg"], "must not be 0"),
        ([*short, "--ways", "no"], "no way"),
        ([*short, "--ways", "dense+skip:1"], "calibration"),
    ):
        assert run([*arguments, *wrong]) == 2
        assert message in capsys.readouterr().err
