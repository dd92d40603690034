"""`artesian run`: one prompt, one answer."""

import sys
from typing import Annotated

from cyclopts import App, Parameter

from artesian.cli.answers import Answerer, AnswerError, Delta, create_answerer
from artesian.cli.errors import print_error
from artesian.cli.interrupt import caught_interrupt
from artesian.cli.options import EPILOGUE, ApiKey, Url, with_settings
from artesian.cli.sampling import DEFAULT_SAMPLING, SamplingOptions
from artesian.cli.stats import AnswerStats
from artesian.config import EngineConfig, Settings, SettingsError

app = App(
    name="run",
    help_epilogue=f"""\
Examples: artesian run smollm2 "Why is the sky blue?" |
cat letter.txt | artesian run smollm2 - --system "Summarize the letter." |
artesian run smollm2 "Once upon a time" --raw --max-tokens 100 --temperature 0

{EPILOGUE}""",
)


@app.default
@with_settings(EngineConfig)
def run(
    settings: Settings,
    prompt: Annotated[str, Parameter(help="The prompt; - reads it from stdin.")] = "-",
    *,
    system: Annotated[str | None, Parameter(help="System prompt.")] = None,
    raw: Annotated[
        bool, Parameter(negative=(), help="Go on with the text: no chat template.")
    ] = False,
    quiet: Annotated[bool, Parameter(negative=(), help="No numbers on stderr.")] = False,
    url: Url = None,
    server_key: ApiKey = None,
    sampling: SamplingOptions = DEFAULT_SAMPLING,
) -> int:
    """Answer one prompt: text to stdout as it comes, numbers to stderr."""
    if prompt == "-":
        if sys.stdin.isatty():
            raise SettingsError("no prompt is given", 'artesian run MODEL "PROMPT", or pipe it in')
        prompt = sys.stdin.read()
    if not prompt.strip():
        raise SettingsError("the prompt is empty")
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    answerer: Answerer | None = None
    stats = AnswerStats()
    try:
        answerer = create_answerer(settings, url, server_key)
        stats = AnswerStats()
        params = sampling.to_params()
        deltas = answerer.complete(prompt, params) if raw else answerer.chat(messages, params)
        with caught_interrupt() as interrupt:
            for delta in deltas:
                show(delta, stats)
                if interrupt.is_set:
                    break
    except AnswerError as error:
        print_error(str(error), error.hint)
        return 1
    finally:
        if answerer is not None:
            answerer.close()
    print()
    if not quiet:
        print(stats, file=sys.stderr)
    return 130 if interrupt.is_set else 0


def show(delta: Delta, stats: AnswerStats) -> None:
    """Prints a piece as soon as it is there."""
    stats.take(delta)
    print(delta.text, end="", flush=True)
