"""`artesian cache`: what is kept of prompts, in a directory and by a running server."""

from cyclopts import App

from artesian.cli.cache_directory import flush, ls, stat
from artesian.cli.cache_server import forget, warm, why

app = App(
    name="cache",
    help="""Look at what is kept of prompts, fill it, and empty it.

    A server that was started with --context-cache-dir keeps the KV of prompts there.""",
    help_epilogue="""\
Examples: artesian cache stat ~/.cache/artesian-kv | artesian cache ls ~/.cache/artesian-kv |
artesian cache why "Once upon a time" --url http://localhost:8000 |
artesian cache forget my-chat""",
)
for command in (stat, ls, flush, why, warm, forget):
    app.command(command)
