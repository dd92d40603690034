"""`artesian cluster`: the workers of a running server."""

import json
import time
from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from artesian.cli.answers.base import AnswerError
from artesian.cli.answers.client import ServerClient
from artesian.cli.errors import print_error
from artesian.cli.options import ApiKey, AsJson
from artesian.cluster.policies import Role
from artesian.doctor.base import format_bytes

ServerUrl = Annotated[str, Parameter(name="--url", help="The server's URL.")]
WorkerId = Annotated[str, Parameter(help="The worker's id, such as w1.")]
NewRole = Annotated[Role, Parameter(help="both, prefill or decode.")]
DEFAULT_URL = "http://localhost:8000"
POLL_INTERVAL_S = 0.2
STYLES = {"ready": "green", "dead": "bold red", "silent": "bold red", "draining": "yellow"}

app = App(
    name="cluster",
    help="""Look at the workers of a running server, and change them while it serves.

    Changes have to come from the server's own host.""",
    help_epilogue="""\
Examples: artesian cluster status | artesian cluster add prefill | artesian cluster role w2 decode |
artesian cluster drain w1 | artesian cluster remove w1 --url http://localhost:9000""",
)


@app.command
def status(
    *, url: ServerUrl = DEFAULT_URL, server_key: ApiKey = None, as_json: AsJson = False
) -> int:
    """Show workers, their roles and queues, hand-overs, and memory nodes."""

    def show(server: ServerClient) -> None:
        cluster = server.call("GET", "cluster")
        if as_json:
            print(json.dumps(cluster, indent=2))
        else:
            _print(cluster)

    return _with_server(url, server_key, show)


@app.command
def drain(worker: WorkerId, *, url: ServerUrl = DEFAULT_URL, server_key: ApiKey = None) -> int:
    """Give a worker nothing new, and wait until it has finished what it has.

    It stays, with its caches: `role` gives it work again."""

    def run(server: ServerClient) -> None:
        server.call("POST", f"cluster/workers/{worker}/drain")
        while _is_busy(server.call("GET", "cluster"), worker):
            time.sleep(POLL_INTERVAL_S)
        print(f"{worker} has nothing to do any more")

    return _with_server(url, server_key, run)


@app.command
def role(
    worker: WorkerId, role: NewRole, *, url: ServerUrl = DEFAULT_URL, server_key: ApiKey = None
) -> int:
    """Give a worker another role; what it has it finishes."""

    def run(server: ServerClient) -> None:
        server.call("POST", f"cluster/workers/{worker}/role", json={"role": role})
        print(f"{worker} is a {role} worker now")

    return _with_server(url, server_key, run)


@app.command
def add(role: NewRole, *, url: ServerUrl = DEFAULT_URL, server_key: ApiKey = None) -> int:
    """Start one more worker. It shares processors and memory with those that are there."""

    def run(server: ServerClient) -> None:
        reply = server.call("POST", "cluster/workers", json={"role": role})
        print(f"{reply['id']} is starting")

    return _with_server(url, server_key, run)


@app.command
def remove(worker: WorkerId, *, url: ServerUrl = DEFAULT_URL, server_key: ApiKey = None) -> int:
    """Drain a worker and end it. Requests that take too long go on elsewhere."""

    def run(server: ServerClient) -> None:
        server.call("DELETE", f"cluster/workers/{worker}")
        print(f"{worker} is gone")

    return _with_server(url, server_key, run)


def _with_server(url: str, key: str | None, run: Callable[[ServerClient], None]) -> int:
    try:
        with ServerClient(url, key) as server:
            run(server)
    except AnswerError as error:
        print_error(str(error), error.hint)
        return 1
    return 0


def _is_busy(cluster: dict[str, Any], worker_id: str) -> bool:
    counts = ("num_requests", "num_prefills", "num_wanted")
    return any(
        worker[count]
        for worker in cluster["workers"]
        for count in counts
        if worker["id"] == worker_id and worker["state"] != "dead"
    )


def _print(cluster: dict[str, Any]) -> None:
    console = Console(highlight=False)
    name = cluster["name"] or "one worker"
    console.print(
        f"[bold]{name}[/]: front {cluster['front_generation']}, "
        f"{cluster['num_waiting']} requests wait for a worker"
    )
    columns = ("worker", "role", "state", "pid", "requests", "run+wait", "KV", "prefills", "wanted")
    table = Table(*columns, box=None, padding=(0, 1, 0, 0))
    for worker in cluster["workers"]:
        style = STYLES.get(worker["state"], "")
        table.add_row(
            f"{worker['id']}.{worker['generation']}",
            worker["role"],
            f"[{style}]{worker['state']}[/]" if style else worker["state"],
            str(worker["pid"] or ""),
            str(worker["num_requests"]),
            f"{worker['num_running']}+{worker['num_waiting']}",
            f"{worker['kv_usage']:.0%}",
            str(worker["num_prefills"]),
            str(worker["num_wanted"]),
        )
    console.print(table)
    if cluster["pool"] is not None:
        nodes = ", ".join(f"{node['number']} {node['state']}" for node in cluster["pool_nodes"])
        used, size = cluster["pool_used_bytes"], cluster["pool_capacity_bytes"]
        console.print(
            f"pool {cluster['pool']}: {format_bytes(used)} of {format_bytes(size)}; "
            f"memory nodes {nodes or 'cannot be seen'}"
        )
