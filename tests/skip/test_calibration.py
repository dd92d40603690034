"""Calibrations: made on a tiny model, written, read, and damaged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artesian.calibrate import Prompts, calibrate, prompt_hash, read_prompts
from artesian.calibrate.measure import measure_prompt
from artesian.eval.session import Room, Session
from artesian.loader import Checkpoint, open_checkpoint
from artesian.loader.reference import ReferenceRunner
from artesian.ops.base import KvLayout
from artesian.skip import (
    Calibration,
    CalibrationError,
    Similarity,
    encode_calibration,
    read_calibration,
)
from tests.engine.toy import ToyTokenizer
from tests.golden import tiny_models
from tests.skip.batches import Text, step


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    return open_checkpoint(tiny_models.write(request.param, tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def found(checkpoint: Checkpoint) -> Calibration:
    return calibrate(checkpoint, prompts(), num_threads=2, most_loss_nats=100.0)


def prompts() -> Prompts:
    rng = np.random.default_rng(1)
    made = [list(map(int, rng.integers(3, 500, 90))) for _ in range(5)]
    return Prompts(made[:4], made[4:])


def test_similarities_are_those_of_numpy(checkpoint: Checkpoint, found: Calibration) -> None:
    config = checkpoint.config
    layout = KvLayout(config.num_layers, config.num_kv_heads, config.head_dim, dtype="f32")
    similarity = Similarity(2 * config.num_layers)
    for tokens in prompts().measured:
        probe = np.zeros((2, 2 * config.num_layers, len(tokens)), np.float32)
        step(ReferenceRunner(checkpoint, layout, 8), [Text(tokens, 0)], [len(tokens)], probe)
        similarity.add(probe)
        similarity.end_prompt()
    inner = slice(0, -2)  # the last layer is measured on some tokens only
    np.testing.assert_allclose(found.similarities[inner], similarity.similarities[inner], atol=2e-3)
    np.testing.assert_allclose(found.scales[inner], similarity.scales[inner], rtol=4e-3)
    assert all(0 < x < 1.5 for x in found.scales[-2:])


def test_the_last_layer_is_measured_on_some_tokens(checkpoint: Checkpoint) -> None:
    session = Session(checkpoint, Room(128, 1, 1), num_threads=2)
    similarity = Similarity(2 * checkpoint.config.num_layers)
    measure_prompt(session, prompts().measured[0], similarity)
    assert np.isfinite(similarity.similarities).all()


def test_a_file_holds_for_its_model(found: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(encode_calibration(found))
    assert read_calibration(path, found.fingerprint) == found
    assert found.prompt_hashes == tuple(map(prompt_hash, prompts().measured))
    assert found.num_tokens == 360
    assert [loss.num_skipped for loss in found.losses][:3] == [1, 2, 4]
    assert found.decode is not None and found.prompt is not None
    with pytest.raises(CalibrationError, match="run artesian calibrate for it"):
        read_calibration(path, "another")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2"),
        ({"similarities": [0.5]}, "1 similarities"),
        ({"similarities": []}, "0 similarities"),
        ({"similarities": 7.0}, "no cosines"),
        ({"scales": 0.0}, "scales that are not above 0"),
        ({"spreads": -1.0}, "below 0"),
        ({"windows": -1}, "windows below 0"),
        (
            {"losses": [{"num_skipped": 2, "nats": 0.1}, {"num_skipped": 1, "nats": 0.1}]},
            "out of order",
        ),
        ({"model": None}, "is no calibration"),
    ],
)
def test_damage_is_noticed(
    found: Calibration, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "c.json"
    content = json.loads(encode_calibration(found))
    for name, value in change.items():
        is_one_of_many = isinstance(value, int | float) and isinstance(content[name], list)
        content[name] = [value] * len(content[name]) if is_one_of_many else value
    path.write_text(json.dumps(content))
    with pytest.raises(CalibrationError, match=message):
        read_calibration(path)


def test_what_is_no_calibration(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    for content in (b"", b"{}", b"\xff\x00", b"[" * 1000):
        path.write_bytes(content)
        with pytest.raises(CalibrationError, match="artesian calibrate"):
            read_calibration(path)
    path.write_bytes(b" " * (2 << 20))
    with pytest.raises(CalibrationError, match="too large"):
        read_calibration(path)


def test_prompts_of_files(tmp_path: Path) -> None:
    text, lines = tmp_path / "a.txt", tmp_path / "b.jsonl"
    text.write_text("abcdef")
    lines.write_text('"first"\n\n{"prompt": "second one"}\n' + '"x y"\n' * 7)
    made = read_prompts([text, lines], ToyTokenizer(), 4)
    assert len(made.measured) == 8 and len(made.held_out) == 2
    assert all(len(tokens) <= 4 for tokens in made.measured)
    lines.write_text('{"question": 1}')
    with pytest.raises(ValueError, match='line 1 is neither a text nor has a "prompt"'):
        read_prompts([lines], ToyTokenizer(), 4)
    lines.write_text("nonsense")
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        read_prompts([lines], ToyTokenizer(), 4)
    lines.write_text("")
    with pytest.raises(ValueError, match="the prompts are empty"):
        read_prompts([lines], ToyTokenizer(), 4)
