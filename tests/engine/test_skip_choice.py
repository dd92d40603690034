"""How many sublayers are left out, by the settings."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from artesian.config.engine import EngineConfig
from artesian.engine.approximation import SkipChoice
from artesian.engine.skip_choice import open_skips
from artesian.skip import (
    Calibration,
    CalibrationError,
    Loss,
    SkipSet,
    StepCosts,
    encode_calibration,
)

COSTS = StepCosts(rest_s=1.0, ffn_s=1.0, attention_s=1.0, attention_token_s=0.001)


def write(path: Path, *, has_more: bool = True) -> Path:
    calibration = Calibration(
        model="made up",
        fingerprint="f",
        similarities=(0.1, 0.2, 0.9, 0.8, 0.95, 0.7, 0.85, 0.6),
        scales=(1.0,) * 8,
        spreads=(0.0,) * 8,
        windows=(0,) * 4,
        prompt_hashes=(),
        num_tokens=1,
        losses=(Loss(1, 0.1), Loss(3, 0.4)) if has_more else (),
        decode=COSTS if has_more else None,
    )
    path.write_bytes(encode_calibration(calibration))
    return path


def choice(path: Path, **config: Any) -> SkipChoice:
    found = open_skips(EngineConfig(model="m", skip=path, **config), "f")
    assert found is not None
    return found


def test_each_way_of_saying_how_many(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json")
    assert open_skips(EngineConfig(model="m"), "f") is None
    assert choice(path).default == 0
    assert choice(path).most == 6
    assert choice(path, num_skipped=2).default == 2
    assert choice(path, skip_alpha=4 / 3).default == 2
    assert [choice(path, skip_loss_nats=nats).default for nats in (0.05, 0.1, 1)] == [0, 1, 3]
    assert choice(path, skip_speed_up=1.2).default == 1
    assert choice(path).choose(2) == SkipSet((2, 4), (1.0, 1.0))
    weighed = choice(path, skip_selection="gain-per-cost")
    assert weighed.choose(3).sublayers == (2, 4, 6)


def test_tokens_are_watched_if_that_is_set(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json")
    assert choice(path).extend is None
    watching = choice(path, skip_watched_tokens=7)
    assert watching.extend is not None and watching.num_sublayers == 8
    assert watching.extend(watching.choose(1)).num_left == 7


def test_what_cannot_be_had_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json")
    config: dict[str, Any]
    for config, message in (
        ({"num_skipped": 7}, "at most 6 can be left out"),
        ({"skip_speed_up": 50.0}, "50 times as fast cannot be had"),
    ):
        with pytest.raises(ValueError, match=message):
            choice(path, **config)
    with pytest.raises(CalibrationError, match="not of this model"):
        open_skips(EngineConfig(model="m", skip=path), "another")
    bare = write(tmp_path / "bare.json", has_more=False)
    for config, message in (
        ({"skip_loss_nats": 0.1}, "no losses"),
        ({"skip_speed_up": 1.1}, "has no times"),
        ({"skip_selection": "gain-per-cost"}, "has no times"),
    ):
        with pytest.raises(ValueError, match=message):
            choice(bare, **config)


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ValidationError, match="skip_alpha needs skip"):
        EngineConfig(model="m", skip_alpha=1.1)
    with pytest.raises(ValidationError, match="num_skipped and skip_alpha say the same"):
        EngineConfig(model="m", skip=Path("c"), num_skipped=1, skip_alpha=1.1)
