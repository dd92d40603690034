"""`artesian models`."""

import json
from pathlib import Path

import pytest

from artesian.cli.app import run


def test_list_names_the_demo_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list", "--json"]) == 0
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"smollm2", "gemma3-270m"} <= rows.keys()
    assert run(["models", "list"]) == 0
    assert "smollm2" in capsys.readouterr().out


def test_show(smollm2_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "show", str(smollm2_path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["architecture"], facts["num_layers"], facts["vocab_size"]) == ("llama", 30, 49152)
    assert facts["formats"].keys() == {"q4_1", "q8_0", "f32"}
    assert facts["chat_prompt"].endswith("<|im_start|>assistant\n")
    assert run(["models", "show", str(smollm2_path)]) == 0
    assert "134,515,008 in 272 tensors" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["show", "pull"])
def test_unknown_model(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", verb, "nope"]) == 2
    assert "error: the model 'nope'" in capsys.readouterr().err


def test_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + b"\xff" * 60)
    assert run(["models", "show", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
