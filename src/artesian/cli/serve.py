"""`artesian serve`: the HTTP server and its worker."""

from pathlib import Path

from cyclopts import App

from artesian.cli.options import EPILOGUE, with_settings
from artesian.config import EngineConfig, ServerConfig, Settings

app = App(
    name="serve",
    help_epilogue=f"""\
Examples: artesian serve smollm2 |
artesian serve ./model.gguf --max-model-len 32K --port 9000 --api-key secret |
artesian serve --config server.yaml

{EPILOGUE}""",
)


@app.default
@with_settings(EngineConfig, ServerConfig)
def serve(settings: Settings) -> int:
    """Serve a model: OpenAI-compatible API and chat page."""
    engine_config = settings.load(EngineConfig)
    server_config = settings.load(ServerConfig)
    if server_config.served_model_name is None and not Path(engine_config.model).exists():
        # Clients call a demo model or one from the hub as its server was told to.
        name = {"served_model_name": engine_config.model}
        server_config = server_config.model_copy(update=name)

    from artesian.api.server import run_server

    return run_server(engine_config, server_config)
