"""`artesian pool snapshot` and `restore`: pools as files."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from artesian.cli.pool_options import PoolName
from artesian.doctor.base import format_bytes
from artesian.pool import Pool, Snapshot, verify_snapshot

File = Annotated[Path, Parameter(help="The snapshot file.")]


def snapshot(
    name: PoolName,
    file: File,
    *,
    frozen: Annotated[
        bool,
        Parameter(negative=(), help="Hold all clients still, to save the pool at one moment."),
    ] = False,
) -> int:
    """Save all stores of a pool to a file, while clients work.

    The file is replaced once everything is written. Caches and ordered key spaces are left out.
    """
    with Pool(name, create=False) as pool:
        print(f"saved {describe(pool.snapshot(file, frozen=frozen))}")
    return 0


def restore(
    name: PoolName,
    file: File,
    *,
    size: Annotated[
        str | None, Parameter(help="Create the pool with so much memory if there is none.")
    ] = None,
    verify_only: Annotated[
        bool, Parameter(negative=(), help="Only read the file and check everything in it.")
    ] = False,
) -> int:
    """Put everything in a snapshot file into a pool, over what is there.

    The file is checked first: a damaged one changes nothing.
    """
    if verify_only:
        print(f"the file is whole: {describe(verify_snapshot(file))}")
        return 0
    with Pool(name, size=size, create=False if size is None else None) as pool:
        print(f"restored {describe(pool.restore(file))}")
    return 0


def describe(found: Snapshot) -> str:
    """A snapshot in one line."""
    when = datetime.fromtimestamp(found.saved_unix_ms / 1000).isoformat(" ", "seconds")
    text = (
        f"{found.num_values} values ({format_bytes(found.value_bytes)}) "
        f"in {found.num_namespaces} namespaces, saved {when}"
    )
    if found.num_left_out:
        text += f"; left out {found.num_left_out} keys that were damaged or expired"
    if found.num_namespaces_left_out:
        text += f"; left out {found.num_namespaces_left_out} caches"
    return text
