"""`artesian calibrate`: which sublayers of a model change their input least."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.types import PositiveInt
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from artesian.cli.errors import print_error
from artesian.cli.options import EPILOGUE, AsJson, with_settings
from artesian.config import EngineConfig, Settings
from artesian.loader import open_checkpoint
from artesian.loader.cache import cache_dir, write_whole
from artesian.machine import num_usable_cpus
from artesian.skip import Calibration, encode_calibration
from artesian.skip.costs import speed_up
from artesian.skip.policies import MostSimilar, alpha_of

app = App(
    name="calibrate",
    help_epilogue=f"""\
Examples: artesian calibrate smollm2 --output smollm2.skip.json |
artesian calibrate smollm2 --prompts questions.jsonl essay.txt

{EPILOGUE}""",
)


@app.default
@with_settings(EngineConfig)
def calibrate(
    settings: Settings,
    *,
    prompts: Annotated[
        tuple[Path, ...],
        Parameter(
            consume_multiple=True,
            help="Files: a prompt each, or .jsonl with one a line. Default: varied ones.",
        ),
    ] = (),
    prompt_tokens: Annotated[PositiveInt, Parameter(help="Of each prompt at most.")] = 512,
    output: Annotated[
        Path | None, Parameter(help="File to write; default: in the user's cache.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Measure how little each sublayer changes its input, for skipping those that matter least.

    Also what leaving out more and more of them costs on prompts that were held out, and the time
    that sublayers take here. The file holds for this model alone.
    """
    from artesian.calibrate import calibrate, default_prompts, read_prompts

    config = settings.load(EngineConfig)
    checkpoint = open_checkpoint(config.model)
    console = Console(stderr=True, highlight=False)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("load the model", total=None)

        def advance(name: str, number: int, total: int) -> None:
            bar.update(task, description=name, completed=number, total=total)

        try:
            tokenizer = checkpoint.tokenizer()
            num_tokens = min(prompt_tokens, checkpoint.config.max_model_len)
            if prompts:
                chosen = read_prompts(prompts, tokenizer, num_tokens)
            else:
                chosen = default_prompts(tokenizer, num_tokens)
            found = calibrate(
                checkpoint,
                chosen,
                num_threads=config.num_threads or num_usable_cpus(),
                isa=config.isa,
                progress=advance,
            )
        except ValueError as error:
            print_error(str(error))
            return 1
    path = output or cache_dir("calibrations") / f"{found.fingerprint[:16]}.json"
    write_whole(path, encode_calibration(found))
    if as_json:
        print(encode_calibration(found).decode(), end="")
    else:
        print_calibration(found, Console(highlight=False))
    console.print(f"written to {path}", soft_wrap=True, markup=False)
    return 0


def print_calibration(found: Calibration, console: Console) -> None:
    """The calibration for people."""
    console.print(
        f"{found.model}: {len(found.prompt_hashes)} prompts of {found.num_tokens} tokens",
        soft_wrap=True,
    )
    table = Table("sublayer", "similarity", "spread", "scale", box=None, padding=(0, 2, 0, 0))
    policy = MostSimilar()
    for number in policy.order(found)[:16]:
        table.add_row(
            sublayer_name(number),
            f"{found.similarities[number]:.4f}",
            f"{found.spreads[number]:.4f}",
            f"{found.scales[number]:.4f}",
        )
    console.print(table)
    columns = ("left out", "alpha", "extra loss, nats", "decode at 1k, 4k, 8k", "prompt")
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for loss in found.losses:
        skip = policy.choose(found, loss.num_skipped)
        ups = [speed_up(found, found.decode, skip, n) for n in (1024, 4096, 8192) if found.decode]
        table.add_row(
            str(loss.num_skipped),
            f"{alpha_of(found.num_layers, loss.num_skipped):.2f}",
            f"{loss.nats:+.3f}",
            ", ".join(f"{up:.2f}" for up in ups),
            f"{speed_up(found, found.prompt, skip, 1024):.2f}" if found.prompt else "",
        )
    console.print(table)


def sublayer_name(number: int) -> str:
    """Such as "attention 25"."""
    return f"{('attention', 'FFN')[number % 2]} {number // 2}"
