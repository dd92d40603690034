"""`artesian simulate`: a trace on a cluster that is not there."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.types import NonNegativeInt, PositiveFloat, PositiveInt
from rich.console import Console
from rich.table import Table

from artesian.cli.errors import print_error
from artesian.cli.options import AsJson
from artesian.plots import draw_lines
from artesian.sim.cluster import Report, Targets
from artesian.sim.cluster.setting import (
    RouterName,
    Setting,
    SettingError,
    calls_by_name,
    machine_by_name,
)
from artesian.sim.traces import TraceError

SWEEP = [number / 10 for number in range(13)]
"""Ratios of offloaded to local sequences."""
ROWS = (
    ("requests answered", "num_finished", "{:,}"),
    ("refused: too long", "num_refused", "{:,}"),
    ("TTFT p50 / p99, ms", "ttft_ms", "{0[0]:,.0f} / {0[1]:,.0f}"),
    ("TPOT p50 / p99, ms", "tpot_ms", "{0[0]:,.1f} / {0[1]:,.1f}"),
    ("between tokens p50 / p99, ms", "itl_ms", "{0[0]:,.1f} / {0[1]:,.1f}"),
    ("goodput, requests/s", "goodput_per_s", "{:.3f}"),
    ("requests/s", "requests_per_s", "{:.3f}"),
    ("output tokens/s", "tokens_per_s", "{:,.1f}"),
    ("prefill workers busy", "prefill_busy", "{:.0%}"),
    ("decode workers busy", "decode_busy", "{:.0%}"),
    ("offloaded : local", "offload_ratio", "{:.2f}"),
    ("preemptions", "num_preemptions", "{:,}"),
    ("role changes", "num_role_changes", "{:,}"),
)

app = App(
    name="simulate",
    help_epilogue="""\
Examples: artesian simulate --trace sharegpt-like --rate 12 --profile a100:llama2-7b |
artesian simulate --trace azure.csv.xz --profile smollm2.json --both 2 --prefill 0 --decode 0 |
artesian simulate --trace openthoughts-like --profile a100:llama2-13b --sweep ratio --plot out.svg
""",
)


Trace = Annotated[
    str,
    Parameter(
        help="File of calls (Azure, Mooncake, tables of lengths), or the name of a generator: "
        "sharegpt-like, openthoughts-like."
    ),
]
Profile = Annotated[
    str, Parameter(help="File of `artesian profile`, or a100|h100:llama2-7b|llama2-13b.")
]
Offload = Annotated[
    str,
    Parameter(
        help="Attention at prefill workers: none, any or all (Adrenaline's conditions, one or "
        "both), or a fixed ratio of offloaded to local sequences."
    ),
]
Prefill = Annotated[NonNegativeInt, Parameter(help="Workers that prefill.")]
Decode = Annotated[NonNegativeInt, Parameter(help="Workers that decode.")]
Both = Annotated[NonNegativeInt, Parameter(help="Workers that do both.")]
Rate = Annotated[
    PositiveFloat | None, Parameter(help="Requests per second; default: as recorded, or 1.")
]
NumRequests = Annotated[PositiveInt, Parameter(help="First requests of the trace.")]
RouterOption = Annotated[RouterName, Parameter(help="How requests find a worker.")]
ExecutorShare = Annotated[
    float, Parameter(help="Of a prefill worker's machine, for attention of others.")
]
MixedTokens = Annotated[
    PositiveInt | None,
    Parameter(help="Prompt tokens of a step while others decode; many: no chunking."),
]
MaxOutputTokens = Annotated[
    PositiveInt, Parameter(help="Longest answer that policies reckon with.")
]
Balance = Annotated[bool, Parameter(negative=(), help="Let workers change their roles.")]
TtftTarget = Annotated[PositiveFloat | None, Parameter(help="Target for goodput.")]
TpotTarget = Annotated[
    PositiveFloat | None, Parameter(help="Target for goodput, and for offloading.")
]
Sweep = Annotated[
    Literal["ratio"] | None, Parameter(help="Simulate ratios of offloading from 0 to 1.2.")
]
Plot = Annotated[Path | None, Parameter(help="SVG file for the sweep.")]
Seed = Annotated[int, Parameter(help="Fixes what is made up.")]


@app.default
def simulate(
    *,
    trace: Trace,
    profile: Profile,
    prefill: Prefill = 1,
    decode: Decode = 1,
    both: Both = 0,
    rate: Rate = None,
    num_requests: NumRequests = 1000,
    router: RouterOption = "least-time",
    offload: Offload = "none",
    executor_share: ExecutorShare = 0.2,
    mixed_tokens: MixedTokens = None,
    max_output_tokens: MaxOutputTokens = 1024,
    balance: Balance = False,
    ttft_slo_ms: TtftTarget = None,
    tpot_slo_ms: TpotTarget = None,
    sweep: Sweep = None,
    plot: Plot = None,
    random_seed: Seed = 0,
    as_json: AsJson = False,
) -> int:
    """Replay a trace on P prefill and D decode workers, on a virtual clock.

    The policies are those of the real cluster. Step times come from a profile: of this machine, or
    a roofline of an accelerator by its data sheet.
    """
    targets = Targets(
        ttft_s=None if ttft_slo_ms is None else ttft_slo_ms / 1e3,
        tpot_s=None if tpot_slo_ms is None else tpot_slo_ms / 1e3,
    )
    setting = Setting(
        prefill=prefill,
        decode=decode,
        both=both,
        router=router,
        offload=offload,
        share=executor_share,
        balance=balance,
        mixed_tokens=mixed_tokens,
        max_output_tokens=max_output_tokens,
        targets=targets,
    )
    if plot is not None and sweep is None:
        print_error("--plot draws a sweep: add --sweep ratio")
        return 2
    try:
        machine = machine_by_name(profile)
        calls = calls_by_name(trace, num_requests, rate, random_seed)
        settings = [replace(setting, offload=str(r)) for r in SWEEP] if sweep else [setting]
        reports = {one.offload: one.run(machine, calls) for one in settings}
    except (SettingError, TraceError) as error:
        print_error(str(error))
        return 2
    if as_json:
        print(json.dumps({name: report.as_dict() for name, report in reports.items()}, indent=2))
    else:
        print_reports(f"{trace} on {machine.name}", reports)
    if plot is not None:
        plot.write_text(draw_sweep(f"{trace} on {machine.name}", reports))
    return 0


def print_reports(title: str, reports: dict[str, Report]) -> None:
    """One report line by line, several of them side by side."""
    console = Console(highlight=False)
    console.print(title, soft_wrap=True, markup=False)
    rows = [
        (label, [form.format(getattr(report, field)) for report in reports.values()])
        for label, field, form in ROWS
    ]
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=len(reports) > 1)
    if len(reports) == 1:
        for label, values in rows:
            table.add_row(label, *values)
    else:
        table.add_column("asked", justify="right")
        shown = [(label, values) for label, values in rows if len(set(values)) > 1]
        for label, _ in shown:
            table.add_column(label, justify="right")
        for number, name in enumerate(reports):
            table.add_row(name, *(values[number] for _, values in shown))
    console.print(table)


def draw_sweep(title: str, reports: dict[str, Report]) -> str:
    """Throughput and TPOT by ratio, relative to no offloading, as SVG."""
    base = next(iter(reports.values()))
    lines = {
        "output tokens/s": [
            (float(n), r.tokens_per_s / base.tokens_per_s) for n, r in reports.items()
        ],
        "mean TPOT": [
            (float(n), r.mean_tpot_ms / (base.mean_tpot_ms or 1)) for n, r in reports.items()
        ],
    }
    return draw_lines(title, "offloaded : local", "times that without offloading", lines)
