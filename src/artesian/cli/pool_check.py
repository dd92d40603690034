"""`artesian pool check`: whether a pool is what it should be."""

import dataclasses
import json
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from artesian.cli.options import AsJson
from artesian.cli.pool_options import PoolName
from artesian.doctor.base import format_bytes
from artesian.pool import CheckReport, Pool

MOST_SHOWN = 50


def check(
    name: PoolName,
    *,
    repair: Annotated[
        bool, Parameter(negative=(), help="Put right what can be, and say what was done.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Look at everything in a pool for what should not be; clients may work meanwhile.

    Exit code 1 says that something is wrong and was not put right. With nobody else in the pool,
    every number is exact and lost memory is noticed.
    """
    with Pool(name, create=False) as pool:
        report = pool.check(repair=repair)
    if as_json:
        print(json.dumps(dataclasses.asdict(report), indent=2))
    else:
        print_report(report, can_repair=not repair)
    return int(not report.is_clean)


def print_report(report: CheckReport, *, can_repair: bool) -> None:
    """The report for people."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    styles = {"error": "bold red", "warning": "yellow"}
    for finding in report.findings[:MOST_SHOWN]:
        console.print(
            str(finding), style=None if finding.repaired else styles.get(finding.severity)
        )
    num_more = len(report.findings) - MOST_SHOWN + report.num_omitted
    if num_more > 0:
        console.print(f"and {num_more} more (--json shows all)")
    console.print(
        f"{report.num_nodes} nodes, {report.num_clients} clients, {report.num_regions} regions, "
        f"{report.num_keys} keys of {format_bytes(report.key_bytes)}; "
        f"in use {format_bytes(report.in_use_bytes)}, free {format_bytes(report.free_bytes)}"
    )
    if not report.is_exact:
        console.print("other clients were at work: memory that is lost cannot be told then")
    num_repaired = sum(finding.repaired is not None for finding in report.findings)
    if num_repaired:
        console.print(f"repaired: {num_repaired}")
    if report.is_clean:
        console.print("clean", style="green")
    else:
        console.print("not clean" + (": --repair puts right what can be" if can_repair else ""))
