"""`artesian files stat`, `top`, `explain`: what is there, who reads, and why it is as it is."""

import dataclasses
import json
import time
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveFloat, PositiveInt

from artesian.cli.files_options import Directory, FilePath, Options, directory_of, open_path
from artesian.cli.options import AsJson
from artesian.doctor.base import format_bytes
from artesian.files.base import Explanation, Unit
from artesian.files.look import FolderReport, folders, look

_MOST_FOLDERS = 30


def stat(directory: Directory = None, *, as_json: AsJson = False) -> int:
    """Say how full the cache is, and what it was good for."""
    report = look(directory_of(directory))
    if as_json:
        print(json.dumps(dataclasses.asdict(report) | {"hit_ratio": report.hit_ratio}, indent=2))
        return 0
    print(report.directory)
    for place in report.places:
        used, capacity = format_bytes(place.used_bytes), format_bytes(place.capacity_bytes)
        print(f"  {place.label}: {place.num_blocks} blocks, {used} of {capacity}")
    print(f"  {report.num_files} files known; the index takes {format_bytes(report.index_bytes)}")
    print(f"  {report.num_processes} processes use it")
    counts = report.counts
    asked = format_bytes(int(counts.get("origin_bytes", 0)))
    read = format_bytes(int(counts.get("read_bytes", 0)))
    print(f"  {report.hit_ratio:.1%} of blocks were there; read {read}, fetched {asked}")
    for rule in report.rules:
        said = ["pinned"] if rule.is_pinned else []
        if rule.quota_bytes is not None:
            said.append(f"at most {format_bytes(rule.quota_bytes)}")
        print(f"  {rule.path}: {', '.join(said)}")
    return 0


def top(
    directory: Directory = None,
    *,
    interval: Annotated[PositiveFloat, Parameter(help="Seconds between two looks.")] = 1.0,
    count: Annotated[
        PositiveInt | None, Parameter(help="End after so many looks; default: Ctrl-C ends it.")
    ] = None,
) -> int:
    """Show live which folders are read, and how much of that is here.

    Processes tell their numbers twice a second.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    path = directory_of(directory)
    before = {each.path: each for each in folders(path)}
    with Live(console=Console(highlight=False), refresh_per_second=4) as live:
        while count is None or count > 0:
            time.sleep(interval)
            now = folders(path)
            rows = [_since(before.get(each.path), each) for each in now]
            rows.sort(key=lambda row: -(row.num_hits + row.num_misses))
            table = Table("folder", "blocks/s", "of them here", "fetched/s", box=None)
            for row in rows[:_MOST_FOLDERS]:
                num_blocks = row.num_hits + row.num_misses
                here = f"{row.num_hits / num_blocks:.0%}" if num_blocks else ""
                fetched = format_bytes(int(row.origin_bytes / interval))
                table.add_row(row.path, f"{num_blocks / interval:,.0f}", here, fetched)
            live.update(table, refresh=True)
            before = {each.path: each for each in now}
            count = None if count is None else count - 1
    return 0


def explain(
    path: FilePath,
    *,
    directory: Directory = None,
    option: Options = None,
    as_json: AsJson = False,
) -> int:
    """Say how a path is read, how that is known, and what is done about it."""
    look(directory_of(directory))  # so that none is made
    fs, stripped = open_path(path, directory, option)
    fs.store.news.recall()
    found = fs.store.advice.explain(fs.origin.url(stripped))
    if as_json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
        return 0
    _print(found)
    return 0


def _print(found: Explanation) -> None:
    suffix = " (little was seen so far)" if found.is_provisional else ""
    print(f"{found.path}: {found.verdict}{suffix}")
    for reason in found.reasons:
        print(f"  {reason}")
    for name, value in found.numbers.items():
        print(f"  {name} = {value:g}")
    if found.unit is not None:
        _print_unit(found.unit)


def _print_unit(unit: Unit) -> None:
    print(f"cared for as {unit.path or 'everything'}: {unit.verdict}; {unit.policy}")
    share = "" if unit.share_bytes is None else f" of {format_bytes(unit.share_bytes)}"
    print(f"  takes {format_bytes(unit.used_bytes)}{share}")
    print(f"  {unit.num_hits} blocks were there, {unit.num_misses} were not")
    if unit.saved_s:
        print(f"  saved {unit.saved_s:.1f} s of waiting")


def _since(before: FolderReport | None, now: FolderReport) -> FolderReport:
    if before is None:
        return now
    return FolderReport(
        now.path,
        now.num_hits - before.num_hits,
        now.num_misses - before.num_misses,
        now.origin_bytes - before.origin_bytes,
    )
