"""`artesian doctor`: whether this machine is ready to serve, and what to do if not."""

import dataclasses
import json

from cyclopts import App
from rich.console import Console
from rich.table import Table

from artesian.cli.options import EPILOGUE, AsJson, with_settings
from artesian.config import EngineConfig, ServerConfig, Settings
from artesian.doctor import Finding, examine

STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}

app = App(
    name="doctor",
    help_epilogue=f"Examples: artesian doctor | artesian doctor smollm2 --json\n\n{EPILOGUE}",
)


@app.default
@with_settings(EngineConfig, ServerConfig)
def doctor(settings: Settings, *, as_json: AsJson = False) -> int:
    """Check whether this machine is ready to serve.

    Exit code 1 says that something would stop `artesian serve`; each finding has a hint.
    """
    engine_config = settings.load(EngineConfig) if settings.get("model") else None
    findings = list(examine(settings.load(ServerConfig), engine_config))
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        print_table(findings)
    return int(any(finding.status == "error" for finding in findings))


def print_table(findings: list[Finding]) -> None:
    """The report for people."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for finding in findings:
        style = STYLES[finding.status]
        table.add_row(f"[{style}]{finding.status}[/]", finding.name, finding.detail)
        if finding.hint:
            table.add_row("", "", f"[cyan]hint:[/] {finding.hint}")
    Console().print(table)
