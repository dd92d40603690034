"""`artesian eval`: what number formats, and attending to less, cost in quality."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.types import PositiveInt
from rich.console import Console
from rich.table import Table

from artesian.cli.eval_long import long_context
from artesian.cli.eval_text import read_text
from artesian.cli.options import EPILOGUE, AsJson, with_settings
from artesian.config import EngineConfig, Settings, SettingsError
from artesian.eval import PathResult, compare_paths
from artesian.loader import open_checkpoint
from artesian.machine import num_usable_cpus

app = App(
    name="eval",
    help_epilogue=f"""\
Examples: artesian eval smollm2 | artesian eval gemma3-270m book.txt --num-tokens 4000 --json |
artesian eval long-context smollm2 --context-tokens 7900 --ways progressive:0.95 window:2048

{EPILOGUE}""",
)
app.command(long_context)


@app.default
@with_settings(EngineConfig)
def evaluate(
    settings: Settings,
    text: Annotated[
        Path | None, Parameter(help="Text file; default: the beginning of a novel.")
    ] = None,
    *,
    num_tokens: Annotated[PositiveInt, Parameter(help="Most tokens of the text to use.")] = 2000,
    window_tokens: Annotated[PositiveInt, Parameter(help="Context of a prediction.")] = 512,
    as_json: AsJson = False,
) -> int:
    """Print the model's perplexity in float32 and in each format that the engine computes in.

    The weights' values are the file's in each. A difference is the mean over tokens of the extra
    loss in nats, with its 95% interval: compare models by perplexity, formats by difference.
    """
    config = settings.load(EngineConfig)
    checkpoint = open_checkpoint(config.model)
    words = sample_text() if text is None else read_text(text)
    tokens = checkpoint.tokenizer().encode(words, add_special_tokens=False)[:num_tokens]
    window_tokens = min(window_tokens, checkpoint.config.max_model_len)
    if len(tokens) < 2 or window_tokens < 4:
        raise SettingsError(f"{len(tokens)} tokens in windows of {window_tokens} are too few")
    table = Table("computed in", "perplexity", "95%", "difference, nats", box=None, padding=(0, 2))
    rows = []
    for result in compare_paths(
        checkpoint,
        tokens,
        window_tokens=window_tokens,
        stride_tokens=window_tokens // 2,
        num_threads=config.num_threads or num_usable_cpus(),
        isa=config.isa,
    ):
        rows.append(as_row(result))
        table.add_row(*as_cells(result))
    if as_json:
        facts = {"model": checkpoint.name, "num_tokens": len(tokens), "window": window_tokens}
        print(json.dumps({**facts, "paths": rows}, indent=2))
    else:
        print(f"{checkpoint.name}, {len(tokens)} tokens, windows of {window_tokens}")
        Console(soft_wrap=True).print(table)
    return 0


def sample_text() -> str:
    """The beginning of a novel."""
    return (files("artesian.eval") / "sample.txt").read_text("utf-8")


def as_row(result: PathResult) -> dict[str, object]:
    """A result for programs."""
    row: dict[str, object] = {
        "path": result.name,
        "perplexity": result.perplexity.value,
        "interval_95": result.perplexity.interval_95,
    }
    if result.difference is not None:
        row["difference_nats"] = result.difference.mean_nats
        row["difference_half_width_nats"] = result.difference.half_width_nats
    return row


def as_cells(result: PathResult) -> tuple[str, str, str, str]:
    """A result for people."""
    low, high = result.perplexity.interval_95
    change = result.difference
    difference = "" if change is None else f"{change.mean_nats:+.4f} ± {change.half_width_nats:.4f}"
    return result.name, f"{result.perplexity.value:.3f}", f"{low:.2f} to {high:.2f}", difference
