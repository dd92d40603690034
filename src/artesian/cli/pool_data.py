"""`artesian pool get`, `put`, `delete`, `scan`: keys of a pool."""

import itertools
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveFloat, PositiveInt

from artesian.cli.errors import print_error
from artesian.cli.pool_options import Namespace, PoolName
from artesian.pool import HashStore, Pool, PoolNotFoundError


def existing_store(pool: Pool, namespace: str) -> HashStore:
    """The store of a namespace that there is: looking for a key must not make one."""
    names = [known.name for known in pool.stats().namespaces]
    if namespace not in names:
        known = f"; there are: {', '.join(names)}" if names else ""
        raise PoolNotFoundError(f"the pool {pool.name} has no namespace {namespace!r}{known}")
    return pool.store(namespace)


def get(
    name: PoolName,
    key: Annotated[str, Parameter(help="The key; its UTF-8 bytes count.")],
    *,
    namespace: Namespace = "default",
    output: Annotated[
        Path | None, Parameter(name=("--output", "-o"), help="Write it to this file.")
    ] = None,
) -> int:
    """Print the value of a key, byte for byte.

    Exit code 1 says that there is none.
    """
    with Pool(name, create=False) as pool:
        value = existing_store(pool, namespace).get(key)
    if value is None:
        print_error(f"{key!r} has no value in namespace {namespace!r} of the pool {pool.name}")
        return 1
    if output is not None:
        output.write_bytes(value)
        return 0
    sys.stdout.buffer.write(value)
    if sys.stdout.isatty() and not value.endswith(b"\n"):
        print()
    return 0


def put(
    name: PoolName,
    key: Annotated[str, Parameter(help="The key; its UTF-8 bytes count.")],
    value: Annotated[
        str | None, Parameter(help="The value as text; standard input if there is none.")
    ] = None,
    *,
    file: Annotated[
        Path | None, Parameter(name=("--file", "-f"), help="Take the value from this file.")
    ] = None,
    namespace: Namespace = "default",
    ttl: Annotated[PositiveFloat | None, Parameter(help="Seconds until it is gone.")] = None,
) -> int:
    """Give a key a value: text, a file, or standard input."""
    if value is not None and file is not None:
        print_error("both a value and --file", "leave one of them out")
        return 2
    if file is not None:
        content = file.read_bytes()
    else:
        content = sys.stdin.buffer.read() if value is None else value.encode()
    with Pool(name, create=False) as pool:
        pool.store(namespace).put(key, content, ttl=ttl)
    return 0


def delete(
    name: PoolName,
    *keys: Annotated[str, Parameter(help="The keys.")],
    namespace: Namespace = "default",
) -> int:
    """Take the values of keys away; prints how many had one.

    Exit code 1 says that some had none.
    """
    if not keys:
        print_error("no key", "artesian pool delete NAME KEY...")
        return 2
    with Pool(name, create=False) as pool:
        store = existing_store(pool, namespace)
        num_deleted = sum(store.delete(key) for key in keys)
    print(f"deleted {num_deleted} of {len(keys)}")
    return int(num_deleted < len(keys))


def scan(
    name: PoolName,
    *,
    prefix: Annotated[str, Parameter(help="Only keys that begin like this.")] = "",
    limit: Annotated[PositiveInt | None, Parameter(help="At most so many.")] = None,
    namespace: Namespace = "default",
    null: Annotated[
        bool,
        Parameter(name=("--null", "-0"), negative=(), help="End keys with a zero byte, unquoted."),
    ] = False,
) -> int:
    """List keys, in no order, one a line.

    Keys that are no printable text are written as Python writes bytes.
    """
    with Pool(name, create=False) as pool:
        keys = itertools.islice(existing_store(pool, namespace).keys(prefix), limit)
        for key in keys:
            sys.stdout.buffer.write(key + b"\0" if null else printable(key).encode() + b"\n")
    sys.stdout.buffer.flush()
    return 0


def printable(key: bytes) -> str:
    """The key as text, if it is some; else as Python would write it."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return repr(key)
    return text if text.isprintable() else repr(key)
