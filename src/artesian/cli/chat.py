"""`artesian chat`: a conversation in the terminal."""

from typing import Annotated

from cyclopts import App, Parameter

from artesian.cli.answers import AnswerError, create_answerer
from artesian.cli.conversation import Conversation
from artesian.cli.errors import print_error
from artesian.cli.options import EPILOGUE, ApiKey, Url, with_settings
from artesian.cli.sampling import DEFAULT_SAMPLING, SamplingOptions
from artesian.config import EngineConfig, Settings

app = App(
    name="chat",
    help_epilogue=f"""\
Examples: artesian chat smollm2 | artesian chat smollm2 --system "You are a pirate." |
artesian chat --url http://localhost:8000

{EPILOGUE}""",
)


@app.default
@with_settings(EngineConfig)
def chat(
    settings: Settings,
    *,
    system: Annotated[str | None, Parameter(help="System prompt.")] = None,
    url: Url = None,
    server_key: ApiKey = None,
    sampling: SamplingOptions = DEFAULT_SAMPLING,
) -> int:
    """Chat with a model in the terminal.

    /reset forgets, /system TEXT sets the system prompt, /save FILE keeps the conversation,
    /quit or Ctrl-D ends; Ctrl-C stops an answer.
    """
    try:
        answerer = create_answerer(settings, url, server_key)
    except AnswerError as error:
        print_error(str(error), error.hint)
        return 1
    try:
        Conversation(answerer, sampling.to_params(), system).run()
    finally:
        answerer.close()
    return 0
