"""What a worker's engine does with a profile."""

from pathlib import Path

import msgspec
import pytest
from pydantic import ValidationError

from artesian.cluster.worker_engine import peer_rules
from artesian.config.engine import EngineConfig
from artesian.engine.factory import plan_kv
from artesian.engine.landings import DecodeLoad
from artesian.loader import open_checkpoint
from artesian.ops.native import default_isa
from artesian.profile import ProfileError, identify, write_profile
from tests.profile.test_offload import PROFILE_


@pytest.fixture
def config(smollm2_path: Path, tmp_path: Path) -> EngineConfig:
    """With a profile that holds here; a full step's prompt takes 1.024 s alone."""
    config = EngineConfig(
        model=str(smollm2_path),
        offload=True,
        offload_profile=tmp_path / "profile.json",
        offload_ttft_ms=1127.0,
    )
    checkpoint = open_checkpoint(config.model)
    dtype = plan_kv(checkpoint, config)[0].dtype
    identity = identify(config, checkpoint, dtype, default_isa())
    write_profile(msgspec.structs.replace(PROFILE_, identity=identity), tmp_path / "profile.json")
    return config


def test_the_executor_gets_what_the_profile_leaves(config: EngineConfig) -> None:
    rules = peer_rules(config)
    assert rules.executor_share == pytest.approx(0.4, abs=0.01)
    assert rules.offload is not None
    load = DecodeLoad(local_seqs=10, local_tokens=1000, remote=[])
    assert rules.offload.is_remote(400, 450, load)
    assert not rules.offload.is_remote(600, 650, load), "half of a peer's memory is for others"


def test_a_target_that_cannot_be_kept_leaves_nothing(config: EngineConfig) -> None:
    rules = peer_rules(config.model_copy(update={"offload_ttft_ms": 10.0}))
    assert rules.executor_share == 0.01
    assert rules.offload is not None
    load = DecodeLoad(local_seqs=10, local_tokens=1000, remote=[])
    assert not rules.offload.is_remote(1, 1, load)


def test_a_foreign_profile_stops_the_start(config: EngineConfig) -> None:
    with pytest.raises(ProfileError, match="another num threads"):
        peer_rules(config.model_copy(update={"num_threads": 77}))


def test_without_a_profile_executors_share_evenly(smollm2_path: Path) -> None:
    rules = peer_rules(EngineConfig(model=str(smollm2_path), offload=True))
    assert rules.executor_share is None
    assert rules.offload is not None
    assert rules.offload.is_remote(
        900, 950, DecodeLoad(local_seqs=10, local_tokens=1000, remote=[])
    )
    assert peer_rules(EngineConfig(model=str(smollm2_path))).offload is None


def test_settings_that_need_each_other() -> None:
    with pytest.raises(ValidationError, match="need each other"):
        EngineConfig(model="m", offload=True, offload_ttft_ms=5)
    with pytest.raises(ValidationError, match="for offload"):
        EngineConfig(model="m", offload_profile=Path("p"), offload_ttft_ms=5)
