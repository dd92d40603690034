"""`artesian cache stat|ls|flush`: the directory and the pool of a context cache."""

import dataclasses
import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from artesian.cli.options import AsJson
from artesian.context import care
from artesian.doctor.base import format_bytes

Directory = Annotated[Path, Parameter(help="What --context-cache-dir named.")]
Place = Annotated[
    str, Parameter(help="A directory that --context-cache-dir named, or a pool: shm://NAME.")
]


def stat(place: Place, *more: Place, as_json: AsJson = False) -> int:
    """Say how much is in each tier, and how old that is."""
    reports = [care.look(each) for each in (place, *more)]
    if as_json:
        print(json.dumps([dataclasses.asdict(report) for report in reports], indent=2))
        return 0
    for report in reports:
        where = "on the disk" if report.tier == "disk" else "in memory"
        blocks = f"{report.num_blocks} blocks, {format_bytes(report.used_bytes)} {where}"
        print(f"{report.place}: {blocks}")
        if report.oldest_s is not None and report.newest_s is not None:
            done = "saved" if report.tier == "disk" else "last used"
            print(f"  {done} from {_day(report.oldest_s)} to {_day(report.newest_s)}")
    return 0


def ls(directory: Directory, *, as_json: AsJson = False) -> int:
    """List the sessions that have blocks in it, the one used last first.

    Requests that bring no session_id leave blocks that belong to none."""
    sessions = care.sessions(directory)
    if as_json:
        print(json.dumps([dataclasses.asdict(session) for session in sessions], indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("session", "tokens", "blocks", "of them here", "on the disk", "last used")
    for session in sessions:
        table.add_row(
            session.session_id,
            str(session.num_tokens),
            str(session.num_blocks),
            str(session.num_blocks_here),
            format_bytes(session.num_bytes),
            _day(session.used_s),
        )
    Console().print(table)
    return 0


def flush(place: Place, *more: Place) -> int:
    """Delete all blocks and records of sessions.

    Servers that use them go on, and compute again what they need."""
    for each in (place, *more):
        print(f"deleted {care.flush(each)} blocks")
    return 0


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
