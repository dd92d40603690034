"""`artesian profile`: what a model takes on this machine."""

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from artesian.cli.errors import print_error
from artesian.cli.options import EPILOGUE, AsJson, with_settings
from artesian.config import EngineConfig, Settings
from artesian.profile import Profile, profile_path, write_profile

app = App(
    name="profile",
    help_epilogue=f"""\
Examples: artesian profile smollm2 | artesian profile smollm2 --quick --output smollm2.json

{EPILOGUE}""",
)


@app.default
@with_settings(EngineConfig)
def profile(
    settings: Settings,
    *,
    quick: Annotated[
        bool, Parameter(negative=(), help="Fewer and shorter measurements, less exact.")
    ] = False,
    output: Annotated[
        Path | None,
        Parameter(help="File to write; default: in context_cache_dir, or the user's cache."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Measure what a model takes on this machine, for admission and `artesian simulate`.

    Times steps of decoding and of prompts, attention with 1 to all threads, prefills beside a
    process that reads memory, and the copy of KV to a peer. Nothing else should run meanwhile.
    """
    from artesian.profile.measure import FULL, QUICK, measure

    config = settings.load(EngineConfig)
    console = Console(stderr=True, highlight=False)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("load the model", total=None)

        def advance(name: str, number: int, total: int) -> None:
            progress.update(task, description=name, completed=number, total=total)

        try:
            found = measure(config, QUICK if quick else FULL, advance)
        except ValueError as error:
            print_error(str(error))
            return 1
    path = output or profile_path(found.identity, config.context_cache_dir)
    write_profile(found, path)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        print_profile(found, Console(highlight=False))
    console.print(f"written to {path}", soft_wrap=True, markup=False)
    return 0


def print_profile(found: Profile, console: Console) -> None:
    """The profile for people."""
    identity, costs = found.identity, found.costs
    console.print(
        f"{identity.model} on {identity.cpu}, {identity.num_threads} threads, {identity.isa} "
        f"kernels, KV in {identity.kv_dtype}: {found.kv_bytes:,.0f} bytes a token",
        soft_wrap=True,
    )
    table = Table("a step takes", "", box=None, padding=(0, 2, 0, 0))
    table.add_row("by itself", f"{costs.fixed_s * 1e3:.2f} ms")
    table.add_row("for each row of decode", f"{costs.row_s * 1e3:.3f} ms")
    if costs.knee_rows:
        table.add_row("  at least as for", f"{costs.knee_rows:g} rows")
    table.add_row("for each row of a prompt", f"{costs.prompt_row_s * 1e3:.3f} ms")
    table.add_row("attention, 1,000 tokens of KV", f"{costs.kv_token_s * 1e6:.3f} ms")
    table.add_row("attention, 1,000 pairs of a prompt", f"{costs.pair_s * 1e6:.3f} ms")
    table.add_row(
        "to hand over 1,000 tokens", f"{found.handover_byte_s * found.kv_bytes * 1e6:.3f} ms"
    )
    console.print(table)
    console.print(
        f"error of these terms where they were not fitted: {found.mean_error:.1%} on average, "
        f"{found.max_error:.1%} at most"
    )
    table = Table("threads", "attention, GB/s", box=None, padding=(0, 2, 0, 0))
    for count, rate in found.attention_bytes_per_s.items():
        table.add_row(str(count), f"{rate / 1e9:.2f}")
    console.print(table)
    table = Table("executor's share", "GB/s", "prefill takes", box=None, padding=(0, 2, 0, 0))
    for share in found.shares:
        table.add_row(
            f"{share.share:.0%}", f"{share.bytes_per_s / 1e9:.2f}", f"x {share.slowdown:.2f}"
        )
    console.print(table)
