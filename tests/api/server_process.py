"""Runs a real server: `python server_process.py ENGINE_JSON SERVER_JSON`.

Models named "toy..." run in the toy engine, all others in the real one.
"""

import os
import sys
import threading
import time

from artesian.api.server import run_server
from artesian.config import EngineConfig, ServerConfig
from tests.worker.toy import create_tokenizer


def end_with_parent() -> None:
    """A test run that is killed leaves no server behind."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> int:
    threading.Thread(target=end_with_parent, daemon=True).start()
    engine = EngineConfig.model_validate_json(sys.argv[1])
    server = ServerConfig.model_validate_json(sys.argv[2])

    def say(url: str) -> None:
        print(url, flush=True)

    if not engine.model.startswith("toy"):
        return run_server(engine, server, on_ready=say)
    if server.is_cluster:
        return run_server(
            engine,
            server,
            engine_factory="tests.cluster.toy:create_engine",
            tokenizer_factory="tests.cluster.toy:create_tokenizer",
            on_ready=say,
        )
    return run_server(
        engine,
        server,
        engine_factory="tests.worker.toy:create_engine",
        tokenizer_factory=lambda engine, server: create_tokenizer(engine.model),
        on_ready=say,
    )


if __name__ == "__main__":
    sys.exit(main())
