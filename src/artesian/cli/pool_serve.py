"""`artesian pool serve` and `remove`: the beginning and the end of a pool."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveInt
from rich.console import Console

from artesian.cli.pool_options import PoolName
from artesian.doctor.base import format_bytes
from artesian.pool import Pool, PoolNotFoundError


def serve(
    name: PoolName,
    *,
    size: Annotated[
        str | None, Parameter(help="Memory of all nodes together, such as 4GiB; 1GiB if new.")
    ] = None,
    nodes: Annotated[
        PositiveInt | None, Parameter(help="Memory nodes; as many as replicas if new.")
    ] = None,
    replicas: Annotated[
        PositiveInt | None, Parameter(help="Copies of everything, 1 to 4; 1 if new.")
    ] = None,
    lease_ms: Annotated[
        PositiveInt | None,
        Parameter(help="A client silent for so long is ended by the others; 5000 if new."),
    ] = None,
    max_clients: Annotated[
        PositiveInt | None, Parameter(help="Most clients at a time; 127 if new (15 if small).")
    ] = None,
    remove_at_exit: Annotated[
        bool, Parameter(negative=(), help="Remove the pool, with all that is in it, at the end.")
    ] = False,
) -> int:
    """Create a pool, or join it, and keep it healthy until Ctrl-C or SIGTERM.

    Clients need no server: this is one more client, which is always there to finish what killed
    ones began, and to take lost nodes out of the pool. The pool stays when it ends.
    """
    with (
        held_signals(signal.SIGINT, signal.SIGTERM) as stop,
        Pool(
            name,
            size=size,
            nodes=nodes,
            replicas=replicas,
            lease_ms=lease_ms,
            max_clients=max_clients,
        ) as pool,
    ):
        introduce(pool)
        while signal.sigtimedwait(stop, 1.0) is None:
            # Somebody may have removed the pool.
            pool.stats()
    if remove_at_exit:
        Pool.remove(name)
        print(f"removed the pool {pool.name}")
    else:
        print(f"the pool {pool.name} stays: artesian pool remove {pool.name} removes it")
    return 0


@contextmanager
def held_signals(*numbers: signal.Signals) -> Iterator[set[signal.Signals]]:
    """While entered, these signals only arrive where `sigtimedwait` asks for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield set(numbers)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def introduce(pool: Pool) -> None:
    """Says what the pool is and how to use it."""
    stats = pool.stats()
    console = Console(highlight=False, soft_wrap=True, markup=False)
    what = "created" if pool.created else "joined"
    console.print(
        f"{what} {pool.address}: {len(stats.nodes)} nodes of {format_bytes(stats.node_bytes)}, "
        f"{stats.replicas} copies, room for {format_bytes(stats.capacity_bytes)}"
    )
    console.print(f'Python: from artesian import Pool; store = Pool("{pool.address}").store()')
    console.print(f"Shell:  artesian pool stat {pool.name}")
    console.print("Ctrl-C ends this process; the pool stays.")


def remove(
    name: PoolName,
    *,
    missing_ok: Annotated[
        bool, Parameter(negative=(), help="It is no error if there is none.")
    ] = False,
) -> int:
    """Remove a pool with everything in it, whoever uses it."""
    try:
        num_nodes = Pool.remove(name)
    except PoolNotFoundError:
        if missing_ok:
            return 0
        raise
    print(f"removed {name} ({num_nodes} nodes)")
    return 0
