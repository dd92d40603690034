"""`artesian pool`: pools of shared memory, from the command line."""

from cyclopts import App

from artesian.cli.pool_check import check
from artesian.cli.pool_data import delete, get, put, scan
from artesian.cli.pool_look import list_names, stat, top
from artesian.cli.pool_nodes import add_node, drain_node
from artesian.cli.pool_serve import remove, serve
from artesian.cli.pool_snapshot import restore, snapshot

app = App(
    name="pool",
    help="""Create, look at and look after pools of shared memory.

    A pool is memory of this host (/dev/shm) in which processes keep keys and values together. It
    is there until it is removed; Python programs open it as artesian.Pool("shm://NAME").""",
    help_epilogue="""\
Examples: artesian pool serve models --size 4GiB | artesian pool put models greeting hello |
artesian pool get models greeting | artesian pool stat models | artesian pool top models |
artesian pool remove models""",
)
app.command(serve)
app.command(list_names, name="list")
app.command(stat)
app.command(top)
app.command(get)
app.command(put)
app.command(delete)
app.command(scan)
app.command(add_node)
app.command(drain_node)
app.command(check)
app.command(snapshot)
app.command(restore)
app.command(remove)
