"""Profiles in files: what is read back, and what is refused."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from artesian.profile import (
    Profile,
    ProfileError,
    ProfileIdentity,
    Share,
    StepCosts,
    profile_path,
    read_profile,
    write_profile,
)

IDENTITY = ProfileIdentity(
    model="tiny",
    fingerprint="abc",
    kv_dtype="f16",
    quantization="none",
    isa="avx2",
    cpu="Some CPU",
    num_threads=2,
    version="0.1",
)
PROFILE = Profile(
    identity=IDENTITY,
    date=datetime.now(UTC).isoformat(),
    costs=StepCosts(fixed_s=0.0, row_s=2e-3, prompt_row_s=1e-3, kv_token_s=1e-6, pair_s=0.0),
    mean_error=0.03,
    max_error=0.1,
    kv_bytes=1000.0,
    capacity_tokens=4096,
    attention_bytes_per_s={1: 2e9, 2: 3e9},
    shares=[
        Share(share=0.0, bytes_per_s=0.0, slowdown=1.0),
        Share(share=0.2, bytes_per_s=1e9, slowdown=1.1),
        Share(share=0.4, bytes_per_s=1.5e9, slowdown=1.05),
        Share(share=0.8, bytes_per_s=2e9, slowdown=1.5),
    ],
    handover_byte_s=1e-10,
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = profile_path(IDENTITY, tmp_path / "new")
    write_profile(PROFILE, path)
    assert read_profile(path, IDENTITY) == PROFILE
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_each_identity_has_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTESIAN_CACHE_DIR", str(tmp_path))
    others = [IDENTITY, msgspec.structs.replace(IDENTITY, num_threads=4)]
    paths = {profile_path(identity) for identity in others}
    assert len(paths) == 2
    assert {path.parent for path in paths} == {tmp_path / "profiles"}


@pytest.mark.parametrize("name", [n for n in IDENTITY.__struct_fields__ if n != "model"])
def test_a_foreign_profile_is_refused(tmp_path: Path, name: str) -> None:
    write_profile(PROFILE, tmp_path / "p")
    other = msgspec.structs.replace(IDENTITY, **{name: 8 if name == "num_threads" else "other"})
    with pytest.raises(ProfileError, match=f"another {name.replace('_', ' ')} .*artesian profile"):
        read_profile(tmp_path / "p", other)
    assert read_profile(tmp_path / "p") == PROFILE, "a simulator may read it"


@pytest.mark.parametrize(
    "date", [datetime.now(UTC) - timedelta(days=91), "yesterday", "2026-01-01"]
)
def test_a_stale_profile_is_refused(tmp_path: Path, date: datetime | str) -> None:
    text = date if isinstance(date, str) else date.isoformat()
    write_profile(msgspec.structs.replace(PROFILE, date=text), tmp_path / "p")
    with pytest.raises(ProfileError, match=r"days old|no date"):
        read_profile(tmp_path / "p", IDENTITY)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"format": 1', '"format": 9'),
        ('"row_s": 0.002', '"row_s": -1'),
        ('"row_s": 0.002', '"row_s": 0'),
        ('"kv_bytes": 1000.0', '"kv_bytes": "many"'),
        ('"slowdown": 1.5', '"slowdown": 1e999'),
        ("{", ""),
    ],
)
def test_what_is_no_profile_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "p"
    write_profile(PROFILE, path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ProfileError, match=str(path)):
        read_profile(path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b" " * (2 << 20))
    with pytest.raises(ProfileError, match="too large"):
        read_profile(path)
    with pytest.raises(OSError, match="p2"):
        read_profile(tmp_path / "p2")


def test_the_share_that_leaves_prefills_in_time() -> None:
    """1,000 tokens take a second alone."""
    shares = {ttft_s: PROFILE.executor_share(ttft_s, 1000) for ttft_s in (0.9, 1.0, 1.1, 1.3, 9)}
    assert shares[0.9] == 0
    assert shares[1.0] == 0
    assert shares[1.1] == pytest.approx(0.4), "a slowdown that went down is noise"
    assert shares[1.3] == pytest.approx(0.6)
    assert shares[9] == pytest.approx(0.8), "no more than was measured"
    assert PROFILE.executor_bytes_per_s(0.3) == pytest.approx(1.25e9)
    assert PROFILE.slowdown(0.1) == pytest.approx(1.05)
