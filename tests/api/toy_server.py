"""Runs a real server with the toy engine: `python toy_server.py ENGINE_JSON SERVER_JSON`."""

import sys

from artesian.api.server import run_server
from artesian.config import EngineConfig, ServerConfig
from tests.worker.toy import create_tokenizer


def main() -> int:
    return run_server(
        EngineConfig.model_validate_json(sys.argv[1]),
        ServerConfig.model_validate_json(sys.argv[2]),
        engine_factory="tests.worker.toy:create_engine",
        tokenizer_factory=lambda engine, server: create_tokenizer(engine.model),
        on_ready=lambda url: print(url, flush=True),
    )


if __name__ == "__main__":
    sys.exit(main())
