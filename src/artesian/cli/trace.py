"""`artesian trace`: where the time of a request went."""

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter
from cyclopts.types import PositiveInt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from artesian.cli.answers.client import ServerClient
from artesian.cli.errors import print_error
from artesian.cli.options import ApiKey, AsJson, Url
from artesian.cluster.trace_files import default_directory, read_traces
from artesian.cluster.traces import Span, Trace

BAR_COLUMNS = 40
PLAIN_COLUMNS = 160
MAX_READ = 20_000
BAD_ENDINGS = ("error", "failed", "refused", "revoked", "cancelled", "Error")

app = App(
    name="trace",
    help_epilogue="""\
Examples: artesian trace chatcmpl-12ab | artesian trace --slowest 10 |
artesian trace my-request-id --url http://localhost:8000

Traces are read from the files of this user's servers, or with --url from a server's memory. ID is
the response's id, or what was sent as the header x-request-id.""",
)


@app.default
def trace(
    name: Annotated[str | None, Parameter(name="ID", help="Of a request.")] = None,
    /,
    *,
    slowest: Annotated[
        PositiveInt | None, Parameter(help="List so many requests that took longest.")
    ] = None,
    last: Annotated[PositiveInt, Parameter(help="Without ID: list so many of the newest.")] = 10,
    trace_dir: Annotated[
        Path | None, Parameter(help="Where the server keeps traces; default: as for serve.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> int:
    """Show where the time of a request went."""
    directory = trace_dir or default_directory()
    if url is not None:
        found = _from_server(url, api_key, name, slowest, last)
    else:
        found = _from_files(directory, name, slowest, last)
    if not found:
        where = url or str(directory)
        what = f"no trace of {name}" if name else "there are no traces"
        print_error(
            f"{what} in {where}", "older ones are lost; --trace-dir or --url look elsewhere"
        )
        return 1
    if as_json:
        rows = [msgspec.to_builtins(each) for each in found]
        for row in rows:
            row.pop("owner")
        print(json.dumps(rows[0] if name else rows, indent=2))
        return 0
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = PLAIN_COLUMNS
    if name:
        console.print(headline(found[0]))
        console.print(tree(found[0]))
    else:
        console.print(listing(found))
    return 0


def _from_server(
    url: str, api_key: str | None, name: str | None, slowest: int | None, last: int
) -> list[Trace]:
    with ServerClient(url, api_key) as server:
        if name:
            return [_received(server.call("GET", f"traces/{name}"))]
        query = {"limit": slowest or last, "slowest": slowest is not None}
        return [_received(row) for row in server.call("GET", "traces", params=query)["data"]]


def _received(row: dict[str, Any]) -> Trace:
    return msgspec.convert({**row, "started_s": row["started"]}, Trace)


def _from_files(directory: Path, name: str | None, slowest: int | None, last: int) -> list[Trace]:
    found: list[Trace] = []
    for number, each in enumerate(read_traces(directory)):
        if name and name in (each.id, each.request_id):
            return [each]
        if not name:
            found.append(each)
        if number >= MAX_READ or (not name and slowest is None and len(found) >= last):
            break
    if slowest is not None:
        found.sort(key=lambda each: each.duration_ms or 0.0, reverse=True)
    return found[: slowest or last]


def headline(trace: Trace) -> Text:
    """The request in one line."""
    text = Text(trace.id, style="bold")
    if trace.request_id:
        text.append(f"  {trace.request_id}", style="dim")
    text.append(f"  {trace.status}", style=style_of(trace.status))
    text.append(f"  {milliseconds(trace.duration_ms)}")
    if trace.ttft_ms is not None:
        text.append(f", first token after {milliseconds(trace.ttft_ms)}")
    text.append(
        f"; {trace.prompt_tokens} prompt tokens ({trace.cached_tokens} cached), "
        f"{trace.output_tokens} tokens"
    )
    if trace.num_retries:
        text.append(f"; {trace.num_retries} retries", style="yellow")
    return text


def tree(trace: Trace) -> Table:
    """The spans below each other, each with its part of the whole time as a bar."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    total_ms = trace.duration_ms or max((end_of(s, 0.0) for s in trace.spans), default=0.0)
    children: dict[int, list[int]] = {}
    for number, span in enumerate(trace.spans):
        # What is no earlier span would be a loop in a damaged file.
        parent = span.parent if -1 <= span.parent < number else -1
        children.setdefault(parent, []).append(number)

    def add(parent: int, depth: int) -> None:
        for number in sorted(children.get(parent, []), key=lambda n: trace.spans[n].start_ms):
            span = trace.spans[number]
            took_ms = end_of(span, total_ms) - span.start_ms
            table.add_row(
                "  " * depth + span.name,
                span.worker,
                bar(span, total_ms),
                Text(milliseconds(took_ms), justify="right"),
                details(span),
            )
            add(number, depth + 1)

    add(-1, 0)
    if trace.num_dropped_spans:
        table.add_row(f"and {trace.num_dropped_spans} more")
    return table


def bar(span: Span, total_ms: float) -> Text:
    """From the span's start to its end, on a scale of the whole request."""
    scale = BAR_COLUMNS / total_ms if total_ms > 0 else 0.0
    start = min(BAR_COLUMNS - 1, int(span.start_ms * scale))
    end = min(BAR_COLUMNS, max(start + 1, round(end_of(span, total_ms) * scale)))
    text = Text("·" * start, style="dim")
    text.append("█" * (end - start), style=style_of(span.outcome) or "cyan")
    return text.append("·" * (BAR_COLUMNS - end), style="dim")


def details(span: Span) -> Text:
    """The outcome and the numbers."""
    text = Text(span.outcome, style=style_of(span.outcome))
    for name, value in span.values.items():
        if name.startswith("is_") and not value:
            continue
        shown = milliseconds(value) if name.endswith("_ms") else f"{value:,.0f}"
        label = name.removeprefix("num_").removesuffix("_ms").replace("_", " ")
        text.append(f"{', ' if text else ''}{label} {shown}", style="dim")
    return text


def listing(traces: list[Trace]) -> Table:
    """One line for each request."""
    table = Table("id", "status", "took", "first token", "queue", "prompt", "output", "workers",
                  box=None, padding=(0, 2, 0, 0))  # fmt: skip
    for each in traces:
        queue_ms = sum(end_of(s, 0.0) - s.start_ms for s in each.spans if s.name == "queue")
        workers = dict.fromkeys(span.worker for span in each.spans if span.worker)
        table.add_row(
            each.id,
            Text(each.status, style=style_of(each.status)),
            milliseconds(each.duration_ms),
            milliseconds(each.ttft_ms),
            milliseconds(queue_ms),
            str(each.prompt_tokens),
            str(each.output_tokens),
            " ".join(workers),
        )
    return table


def end_of(span: Span, open_ms: float) -> float:
    """When it ended; `open_ms` if it goes on."""
    return max(open_ms, span.start_ms) if span.end_ms is None else span.end_ms


def milliseconds(value: float | None) -> str:
    """A time for people."""
    if value is None:
        return "-"
    return f"{value / 1e3:.2f} s" if value >= 1e4 else f"{value:.1f} ms"


def style_of(outcome: str) -> str:
    """Red for what went wrong."""
    return "red" if any(word in outcome for word in BAD_ENDINGS) else ""
