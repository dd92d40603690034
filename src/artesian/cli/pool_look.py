"""`artesian pool list`, `stat`, `top`: what is there, and who does what."""

import dataclasses
import json
import time
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.types import PositiveFloat, PositiveInt
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from artesian.cli.options import AsJson
from artesian.cli.pool_options import PoolName
from artesian.doctor.base import format_bytes
from artesian.pool import ClientInfo, PoolError, PoolStats, list_pools, pool_stats
from artesian.pool.base import parse_address

STYLES = {"dead": "bold red", "lost": "bold red", "damaged": "bold red", "busy": "green"}


def list_names(*, as_json: AsJson = False) -> int:
    """List your pools on this host."""
    rows = [describe(name) for name in list_pools()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    table = new_table("pool", "nodes", "size", "copies", "clients", "")
    for row in rows:
        if "size_bytes" in row:
            row["size"] = format_bytes(row["size_bytes"])
        keys = ("name", "num_nodes", "size", "replicas", "num_clients", "problem")
        table.add_row(*(str(row.get(key, "")) for key in keys))
    Console(soft_wrap=True).print(table)
    return 0


def describe(name: str) -> dict[str, Any]:
    """A pool in one row."""
    try:
        stats = pool_stats(name)
    except PoolError as error:
        return {"name": name, "problem": str(error)}
    return {
        "name": name,
        "num_nodes": sum(node.state == "live" for node in stats.nodes),
        "size_bytes": sum(node.size_bytes for node in stats.nodes),
        "replicas": stats.replicas,
        "num_clients": sum(client.is_alive for client in stats.clients),
    }


def stat(name: PoolName, *, as_json: AsJson = False) -> int:
    """Show nodes, clients, namespaces and space of a pool, without joining it."""
    stats = pool_stats(name)
    if as_json:
        print(json.dumps({"name": parse_address(name)} | dataclasses.asdict(stats), indent=2))
        return 0
    console = Console(highlight=False)
    console.print(summary(name, stats))
    console.print(Group("", nodes_table(stats), "", clients_table(stats, {})))
    if stats.namespaces:
        console.print(Group("", namespaces_table(stats)))
    return 0


def top(
    name: PoolName,
    *,
    interval: Annotated[PositiveFloat, Parameter(help="Seconds between two looks.")] = 1.0,
    count: Annotated[
        PositiveInt | None, Parameter(help="End after so many looks; default: Ctrl-C ends it.")
    ] = None,
) -> int:
    """Show live what each client does: keys read and written per second.

    Clients tell their numbers a few times a second.
    """
    console = Console(highlight=False)
    before, since = pool_stats(name), time.monotonic()
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        while count is None or count > 0:
            time.sleep(interval)
            now, at = pool_stats(name), time.monotonic()
            table = clients_table(now, rates(before, now, at - since))
            live.update(Group(summary(name, now), "", table), refresh=True)
            before, since = now, at
            count = None if count is None else count - 1
    return 0


def rates(
    before: PoolStats, now: PoolStats, seconds: float
) -> dict[tuple[int, int], tuple[float, float]]:
    """Keys read and written per second by each client that was there before, by its name."""
    known = {name_of(client): client for client in before.clients}
    found = {}
    for client in now.clients:
        old = known.get(name_of(client))
        if old is not None:
            reads = (client.num_reads - old.num_reads) / seconds
            found[name_of(client)] = (reads, (client.num_writes - old.num_writes) / seconds)
    return found


def name_of(client: ClientInfo) -> tuple[int, int]:
    """Which client it is, among all that ever were."""
    return client.place, client.incarnation


def summary(name: str, stats: PoolStats) -> str:
    """The pool in one line."""
    used = stats.capacity_bytes - stats.free_bytes
    live = sum(node.state == "live" for node in stats.nodes)
    text = (
        f"[bold]{parse_address(name)}[/]: {live} nodes, {stats.replicas} copies, "
        f"{format_bytes(used)} of {format_bytes(stats.capacity_bytes)} in blocks of clients"
    )
    if stats.num_lost_regions:
        text += f", [bold red]{stats.num_lost_regions} of {stats.num_regions} regions lost[/]"
    return text


def new_table(*columns: str) -> Table:
    """A table without lines."""
    return Table(*columns, box=None, padding=(0, 2, 0, 0))


def styled(state: str) -> str:
    """A state in its colour."""
    return f"[{STYLES[state]}]{state}[/]" if state in STYLES else state


def nodes_table(stats: PoolStats) -> Table:
    """The memory nodes."""
    table = new_table("node", "state", "size", "regions", "free places")
    for node in stats.nodes:
        size = format_bytes(node.size_bytes)
        counts = (str(node.num_regions), str(node.num_free_places))
        table.add_row(str(node.number), styled(node.state), size, *counts)
    return table


def clients_table(
    stats: PoolStats, per_second: dict[tuple[int, int], tuple[float, float]]
) -> Table:
    """The clients, with what each does per second where that is known."""
    unit = "/s" if per_second else ""
    table = new_table("client", "pid", "state", "lease", "pins", f"reads{unit}", f"writes{unit}")
    for client in stats.clients:
        reads, writes = float(client.num_reads), float(client.num_writes)
        if per_second:
            reads, writes = per_second.get(name_of(client), (0.0, 0.0))
        role = " master" if client.is_master else ""
        table.add_row(
            f"{client.place}.{client.incarnation}",
            str(client.pid),
            f"{styled(client.state)}{role}",
            f"{client.lease_left_ms / 1e3:.1f} s",
            str(client.num_pins),
            f"{reads:,.0f}",
            f"{writes:,.0f}",
        )
    return table


def namespaces_table(stats: PoolStats) -> Table:
    """The key spaces."""
    table = new_table("namespace", "kind", "used", "quota", "ttl")
    for known in stats.namespaces:
        quota = "-" if known.quota_bytes is None else format_bytes(known.quota_bytes)
        ttl = "-" if known.ttl_s is None else f"{known.ttl_s:g} s"
        table.add_row(known.name, known.kind, format_bytes(known.used_bytes), quota, ttl)
    return table
