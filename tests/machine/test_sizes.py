"""Sizes with suffixes."""

import pytest
from pydantic import ValidationError

from artesian.config import EngineConfig
from artesian.machine.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("7", 7),
        ("1_000", 1000),
        ("32k", 32_000),
        ("32K", 32_768),
        ("1.5GiB", 3 << 29),
        ("4GB", 4_000_000_000),
        ("4gib", 4 << 30),
        ("512 MiB", 512 << 20),
        ("12B", 12),
    ],
)
def test_reads_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "1k5", "-3", "1.5", "4Gigs", "1e3"])
def test_refuses_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_size(text)


def test_fields_take_sizes_and_keep_their_limits() -> None:
    config = EngineConfig.model_validate({"model": "m", "max_model_len": "8K"})
    assert config.max_model_len == 8192
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        EngineConfig.model_validate({"model": "m", "max_model_len": "0k"})
