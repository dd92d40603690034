"""`artesian pool add-node` and `drain-node`: pools that grow and shrink."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from artesian.cli.pool_options import PoolName
from artesian.doctor.base import format_bytes
from artesian.pool import Pool
from artesian.pool.resize import Told


def add_node(
    name: PoolName,
    number: Annotated[
        int | None, Parameter(help="A node whose addition was begun and not ended.")
    ] = None,
) -> int:
    """Make a pool larger by a memory node, while clients work.

    The node is as large as the others. What is stored is spread anew.
    """
    with Pool(name, create=False) as pool, progress("adding a node") as told:
        done = pool.add_node(number, told=told)
    print(f"added node {done.node}: moved {format_bytes(done.moved_bytes)} there")
    return 0


def drain_node(
    name: PoolName, number: Annotated[int, Parameter(help="The memory node's number.")]
) -> int:
    """Move everything off a memory node, while clients work, and give its memory back.

    Its number is not used again.
    """
    with Pool(name, create=False) as pool, progress(f"draining node {number}") as told:
        done = pool.drain_node(number, told=told)
    print(f"drained node {done.node}: moved {format_bytes(done.moved_bytes)} to the others")
    return 0


@contextmanager
def progress(what: str) -> Iterator[Told | None]:
    """A bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.fields[moved]}"))
    shown = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
    with shown:
        task = shown.add_task(what, total=None, moved="")
        most = 0

        def told(moved_bytes: int, left: int) -> None:
            nonlocal most
            most = max(most, left)
            # Without a total the bar only shows that something goes on.
            total = most or None
            shown.update(task, total=total, completed=most - left, moved=format_bytes(moved_bytes))

        yield told
