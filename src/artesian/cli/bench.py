"""`artesian bench`: latency and throughput, in this process or of a server."""

import asyncio
import dataclasses
import json
import math
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.types import PositiveFloat, PositiveInt
from rich.console import Console
from rich.table import Table

from artesian.bench import Report, Workload, summarize
from artesian.cli.answers import AnswerError
from artesian.cli.errors import print_error
from artesian.cli.options import EPILOGUE, ApiKey, AsJson, Url, with_settings
from artesian.config import EngineConfig, Settings

app = App(
    name="bench",
    help_epilogue=f"""\
Examples: artesian bench smollm2 --num-prompts 32 --input-len 512 --output-len 128 |
artesian bench --url http://localhost:8000 --request-rate 4 --max-concurrency 16 --json

{EPILOGUE}""",
)


@app.default
@with_settings(EngineConfig)
def bench(
    settings: Settings,
    *,
    num_prompts: Annotated[PositiveInt, Parameter(help="Requests in all.")] = 16,
    input_len: Annotated[PositiveInt, Parameter(help="Tokens of each prompt.")] = 256,
    output_len: Annotated[PositiveInt, Parameter(help="Tokens of each answer.")] = 64,
    request_rate: Annotated[
        PositiveFloat, Parameter(help="Arrivals per second, at random; inf: all at once.")
    ] = math.inf,
    max_concurrency: Annotated[PositiveInt, Parameter(help="Requests at the same time.")] = 8,
    random_seed: Annotated[int, Parameter(help="Fixes prompts and arrivals.")] = 0,
    url: Url = None,
    server_key: ApiKey = None,
    as_json: AsJson = False,
) -> int:
    """Measure latency and throughput, in this process or of a server.

    TTFT is the time to the first token, TPOT the average per token after it, ITL the time between
    two outputs, E2E the whole request. Percentiles are over requests (ITL: over gaps).
    """
    workload = Workload(
        num_prompts, input_len, output_len, request_rate, max_concurrency, random_seed
    )
    try:
        report = measure(settings, workload, url, server_key)
    except AnswerError as error:
        print_error(str(error), error.hint)
        return 1
    if as_json:
        print(json.dumps({"workload": describe(workload)} | dataclasses.asdict(report), indent=2))
    else:
        print_report(report)
    return int(report.num_completed == 0)


def measure(
    settings: Settings, workload: Workload, url: str | None, server_key: str | None
) -> Report:
    """Runs the workload where it belongs. Raises `AnswerError` when a server does not answer."""
    if url is not None:
        from artesian.bench.online import run_online
        from artesian.cli.answers.fields import request_fields
        from artesian.cli.answers.remote import RemoteAnswerer

        fields = request_fields(settings)
        answerer = RemoteAnswerer(url, server_key, settings.get("model"))
        answerer.close()
        return summarize(
            *asyncio.run(run_online(answerer.base_url, server_key, answerer.name, workload, fields))
        )
    from artesian.bench.offline import run_offline
    from artesian.engine.factory import create_engine

    engine = create_engine(settings.load(EngineConfig))
    return summarize(*run_offline(engine, engine.info().vocab_size, workload))


def describe(workload: Workload) -> dict[str, object]:
    """The workload as JSON can say it, which knows no infinity."""
    values = dataclasses.asdict(workload)
    if math.isinf(workload.request_rate):
        values["request_rate"] = "inf"
    return values


def print_report(report: Report) -> None:
    """The report for people."""
    console = Console(highlight=False)
    console.print(
        f"{report.num_completed} requests in {report.duration_s:.2f} s"
        f" ({report.requests_per_s:.2f}/s), {report.num_failed} failed\n"
        f"{report.num_prompt_tokens} prompt tokens ({report.num_cached_tokens} cached), "
        f"{report.num_output_tokens} output tokens\n"
        f"{report.output_tokens_per_s:.1f} output tokens/s, "
        f"{report.total_tokens_per_s:.1f} tokens/s in all"
    )
    table = Table("ms", "mean", "p50", "p90", "p99", box=None, padding=(0, 2, 0, 0))
    for name, values in report.latencies_ms.items():
        table.add_row(name, *(f"{value:.1f}" for value in values.values()))
    console.print(table)
    for reason, count in report.errors.items():
        console.print(f"failed {count} times: {reason}", markup=False)
