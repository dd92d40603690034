"""Measuring a real model: the parts that run beside each other, and the command."""

import json
import time
from pathlib import Path

import pytest

from artesian.cli import app
from artesian.config.engine import EngineConfig
from artesian.profile import (
    ProfileError,
    ProfileIdentity,
    identify,
    measure,
    neighbour,
    read_profile,
)
from artesian.profile.copying import copy_byte_s
from artesian.profile.steps import StepBench

TINY = measure.Extent(
    batches=(1, 4),
    contexts=(32, 256, 1024),
    chunks=(16, 32),
    firsts=(0, 32),
    repeats=2,
    shares=(0.0, 0.5),
)


def test_the_neighbour_reads_while_the_body_runs() -> None:
    with neighbour.neighbour(0.5) as reading:
        time.sleep(0.2)
    assert reading.bytes_per_s > 0
    with neighbour.neighbour(0.0) as reading:
        pass
    assert reading.bytes_per_s == 0


def test_the_neighbour_ends_with_a_body_that_fails() -> None:
    start_s = time.monotonic()
    with pytest.raises(KeyError), neighbour.neighbour(1.0):
        raise KeyError
    assert time.monotonic() - start_s < 60


def test_copies_take_time() -> None:
    assert 0 < copy_byte_s(24 << 10, 1) < 1e-6


@pytest.mark.slow
def test_steps_are_counted_as_the_costs_count_them(smollm2_path: Path) -> None:
    bench = StepBench(
        EngineConfig(model=str(smollm2_path), max_model_len=256, kv_cache_memory_bytes=16 << 20), 1
    )
    step = bench.measure([(99, 1), (49, 1), (10, 20)], 1)
    assert (step.rows, step.tokens, step.prompt_rows) == (2, 150, 20)
    assert step.pairs == sum(range(11, 31))
    assert step.seconds > 0
    assert not bench.fits([(250, 10)])
    assert not bench.fits([(255, 1)] * (bench.capacity_tokens // 256 + 1))
    assert bench.fits([(255, 1)])


@pytest.mark.slow
def test_the_command_writes_a_profile_that_holds_here(
    smollm2_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: object
) -> None:
    assert isinstance(monkeypatch, pytest.MonkeyPatch)
    monkeypatch.setattr(measure, "QUICK", TINY)
    path = tmp_path / "profile.json"
    arguments = ["profile", str(smollm2_path), "--num-threads", "1", "--max-model-len", "1024"]
    arguments += ["--kv-cache-memory-bytes", "100MiB", "--quick", "--json", "--output", str(path)]
    assert app.run(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    found = read_profile(path)
    assert printed["kv_bytes"] == found.kv_bytes == 2 * 30 * 3 * 64 * 2
    assert set(found.attention_bytes_per_s) == {1}
    assert [share.share for share in found.shares] == [0.0, 0.5]
    config = EngineConfig(model=str(smollm2_path), num_threads=1, max_model_len=1024)
    here = identity_of(config)
    assert read_profile(path, here) == found
    other = EngineConfig(model=str(smollm2_path), num_threads=1, kv_cache_dtype="f32")
    with pytest.raises(ProfileError, match="another kv dtype"):
        read_profile(path, identity_of(other))


def identity_of(config: EngineConfig) -> ProfileIdentity:
    bench = StepBench(config, 1)
    return identify(config, bench.checkpoint, bench.kv_dtype, bench.isa)
