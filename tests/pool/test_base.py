import pytest

from artesian.pool import PoolUsageError
from artesian.pool.base import parse_address, parse_bytes


@pytest.mark.parametrize("address", ["shm://a-b_2", "a-b_2"])
def test_addresses(address: str) -> None:
    assert parse_address(address) == "a-b_2"


@pytest.mark.parametrize("address", ["", "shm://", "tcp://x", "a/b", "ä", "x" * 65, "a\n"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(PoolUsageError, match="shm://NAME"):
        parse_address(address)


def test_sizes() -> None:
    assert parse_bytes("1.5GiB") == 3 << 29
    assert parse_bytes(7) == 7
    assert parse_bytes(None) is None


@pytest.mark.parametrize("size", ["4 foo", "-1", 0, -5, 2.5, "1.0001k", ""])
def test_what_is_no_size(size: str) -> None:
    with pytest.raises(PoolUsageError, match=r"size .*:"):
        parse_bytes(size)
