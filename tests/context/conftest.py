"""Fixtures of the tests of the context cache."""

import os
import random
from collections.abc import Iterator
from contextlib import suppress

import pytest

from artesian.pool import Pool, PoolError


@pytest.fixture
def pool() -> Iterator[str]:
    """The name of a pool that is not there yet; removed at the end."""
    name = f"test-context-{os.getpid()}-{random.randrange(1 << 30)}"
    yield name
    with suppress(PoolError):
        Pool.remove(name)
