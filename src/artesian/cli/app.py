"""The `artesian` command: its verbs, loaded when used, and how errors look."""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from artesian import __version__
from artesian.cli.errors import print_error

EPILOGUE = """\
Examples: artesian serve smollm2 | artesian chat smollm2 |
artesian run smollm2 "Why is the sky blue?" | artesian doctor
"""

# Verb, module, one line of help (so that `artesian --help` imports none of them).
VERBS = (
    ("serve", "Serve a model: OpenAI-compatible API and chat page."),
    ("chat", "Chat with a model in the terminal."),
    ("run", "Answer one prompt."),
    ("bench", "Measure latency and throughput, in this process or of a server."),
    ("profile", "Measure what a model takes on this machine."),
    ("calibrate", "Find out which sublayers of a model can be left out."),
    ("simulate", "Replay a trace on a simulated cluster."),
    ("eval", "Measure what number formats, and attending to less, cost in quality."),
    ("models", "List, fetch and inspect models."),
    ("cache", "Look at what is kept of prompts, fill it, and empty it."),
    ("pool", "Create, look at and look after pools of shared memory."),
    ("files", "Look at and look after the cache for files of other stores."),
    ("cluster", "Look at the workers of a running server, and change them."),
    ("trace", "Show where the time of a request went."),
    ("doctor", "Check whether this machine is ready to serve."),
    ("version", "Print versions."),
)


def create_app() -> App:
    """The application with all verbs registered by name."""
    app = App(
        name="artesian",
        help="Serves large language models on CPUs.",
        help_epilogue=EPILOGUE,
        version=__version__,
        version_flags=["--version"],
        help_format="plaintext",
        result_action="return_value",
    )
    for order, (verb, help_line) in enumerate(VERBS):
        app.command(f"artesian.cli.{verb}:app", name=verb, help=help_line, sort_key=order)
    return app


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 wrongly used."""
    try:
        result = create_app()(list(arguments), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        print_error(str(error), "artesian --help lists commands; artesian COMMAND --help options")
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has left (`artesian models list | head`). Python would complain
        # once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return explain(error)
    return result if isinstance(result, int) else 0


def explain(error: Exception) -> int:
    """Prints an error that a user can mend and returns the exit code; raises any other again."""
    from artesian.config import SettingsError
    from artesian.context.base import ContextCacheError
    from artesian.engine.base import InvalidRequestError
    from artesian.kvcache.memory_plan import MemoryPlanError
    from artesian.loader.base import CheckpointError
    from artesian.profile.base import ProfileError

    files = sys.modules.get("artesian.files.base")
    if files is not None and isinstance(error, files.FilesError):
        print_error(str(error))
        return 2 if isinstance(error, ValueError) else 1
    pool_errors = sys.modules.get("artesian.pool.errors")
    if pool_errors is not None and isinstance(error, pool_errors.PoolError):
        print_error(str(error))
        return 1
    if isinstance(error, SettingsError):
        print_error(str(error), error.hint)
        return 2
    mendable = (
        CheckpointError,
        ContextCacheError,
        InvalidRequestError,
        MemoryPlanError,
        ProfileError,
    )
    if isinstance(error, mendable):
        print_error(str(error))
        return 2
    if isinstance(error, OSError):
        print_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1
    raise error
