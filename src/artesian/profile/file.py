"""Profiles in files."""

import hashlib
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from artesian.loader.cache import cache_dir, write_whole
from artesian.profile.base import FORMAT, Profile, ProfileError, ProfileIdentity

MAX_AGE = timedelta(days=90)
"""An older profile is taken for stale: kernels, firmware and neighbours change."""
_MOST_BYTES = 1 << 20


def profile_path(identity: ProfileIdentity, context_cache_dir: Path | None = None) -> Path:
    """Where the profile of that identity is: beside the context cache if there is one, else in the
    user's cache directory."""
    digest = hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:16]
    return (context_cache_dir or cache_dir("profiles")) / f"profile-{digest}.json"


def write_profile(profile: Profile, path: Path) -> None:
    """Writes all of it or nothing. Raises `OSError`."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(profile), indent=1) + b"\n")


def read_profile(path: Path, identity: ProfileIdentity | None = None) -> Profile:
    """The profile of a file.

    Args:
        identity: what it must hold for, today; None: whatever it holds for (a simulator's machine
            may be another one).

    Raises:
        OSError: the file cannot be read.
        ProfileError: it is no profile, foreign, or stale.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ProfileError(f"{path} is too large for a profile")
    try:
        profile = msgspec.json.decode(path.read_bytes(), type=Profile)
    except msgspec.MsgspecError as error:
        raise ProfileError(f"{path} is no profile: {error}") from None
    _check(profile, path)
    if identity is not None:
        _compare(profile, identity, path)
    return profile


def _check(profile: Profile, path: Path) -> None:
    if profile.format != FORMAT:
        raise ProfileError(f"{path} has format {profile.format}, this version reads {FORMAT}")
    costs = profile.costs
    numbers = [getattr(costs, name) for name in costs.__struct_fields__]
    numbers += [profile.kv_bytes, profile.handover_byte_s, *profile.attention_bytes_per_s.values()]
    numbers += [x for s in profile.shares for x in (s.share, s.bytes_per_s, s.slowdown)]
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ProfileError(f"{path} has times or rates below 0")
    if not (costs.row_s > 0 and costs.kv_token_s > 0 and costs.prompt_row_s > 0):
        raise ProfileError(f"{path} says that rows or attention take no time")


def _compare(profile: Profile, identity: ProfileIdentity, path: Path) -> None:
    mend = f"run `artesian profile {identity.model}` here"
    for name in identity.__struct_fields__:
        theirs, ours = getattr(profile.identity, name), getattr(identity, name)
        if name != "model" and theirs != ours:
            raise ProfileError(
                f"{path} is of another {name.replace('_', ' ')} ({theirs}, here {ours}): {mend}"
            )
    try:
        made = datetime.fromisoformat(profile.date)
        age = datetime.now(UTC) - made
    except (ValueError, TypeError):
        raise ProfileError(f"{path} has no date, but {profile.date!r}: {mend}") from None
    if age > MAX_AGE:
        raise ProfileError(f"{path} is {age.days} days old, more than {MAX_AGE.days}: {mend}")
