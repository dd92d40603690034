"""`artesian cache`: the directory of a context cache, from the command line."""

import dataclasses
import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from artesian.cli.options import AsJson
from artesian.context import care
from artesian.doctor.base import format_bytes

Directory = Annotated[Path, Parameter(help="What --context-cache-dir named.")]

app = App(
    name="cache",
    help="""Look at the directory of a context cache, and empty it.

    A server that was started with --context-cache-dir keeps the KV of prompts there.""",
    help_epilogue="""\
Examples: artesian cache stat ~/.cache/artesian-kv | artesian cache flush ~/.cache/artesian-kv""",
)


@app.command
def stat(directory: Directory, *, as_json: AsJson = False) -> int:
    """Say how much is in it, and how old that is."""
    report = care.look(directory)
    if as_json:
        print(json.dumps(dataclasses.asdict(report), indent=2))
        return 0
    print(f"{report.num_blocks} blocks, {format_bytes(report.used_bytes)} on the disk")
    if report.oldest_s is not None and report.newest_s is not None:
        print(f"saved from {_day(report.oldest_s)} to {_day(report.newest_s)}")
    return 0


@app.command
def flush(directory: Directory) -> int:
    """Delete all blocks. Servers that use it go on, and compute again what they need."""
    print(f"deleted {care.flush(directory)} blocks")
    return 0


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
