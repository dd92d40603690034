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
