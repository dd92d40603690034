"""Pools with names of their own, and other processes that open them."""

import contextlib
import os
import secrets
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator

import pytest

from artesian.pool import HashStore, Pool, PoolNotFoundError

Spawn = Callable[..., subprocess.Popen[str]]

PREAMBLE = """
import os, signal, sys, time
from artesian.pool import *
name = sys.argv[1]
"""


@pytest.fixture
def name() -> Iterator[str]:
    """A pool's name that nobody uses; whatever has it afterwards is removed."""
    name = f"test-{os.getpid()}-{secrets.token_hex(4)}"
    yield name
    with contextlib.suppress(PoolNotFoundError):
        Pool.remove(name)


@pytest.fixture
def pool(name: str) -> Iterator[Pool]:
    """A small pool on one node."""
    with Pool(name, size="32MiB") as pool:
        yield pool


@pytest.fixture
def store(pool: Pool) -> HashStore:
    """Its default store."""
    return pool.store()


@pytest.fixture
def spawn(name: str) -> Iterator[Spawn]:
    """Starts a Python process that runs some code, with the pool's name in `name`."""
    children: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def line(child: subprocess.Popen[str]) -> str:
    """The next line that a child prints; fails with its error if it ends instead."""
    assert child.stdout is not None
    text = child.stdout.readline()
    if not text:
        _, error = child.communicate()
        pytest.fail(f"the child ended: {error}")
    return text.strip()
