"""`python -m artesian.api.front`: the front of a cluster, started by the keeper.

It inherits the listening socket and is told the rest on stdin, whose end is the keeper's. It keeps
nothing that the next front would need.
"""

import asyncio
import logging
import os
import socket
import sys
import threading
from importlib import import_module
from typing import cast

import msgspec

from artesian.api.server import EXIT_FAILURE, EXIT_OK, Server, TokenizerFactory
from artesian.cluster.base import FrontSpec, Membership
from artesian.cluster.fleet import Fleet, Place, Policies
from artesian.cluster.link import KeeperLink
from artesian.cluster.policies import QueueTimeBalancer
from artesian.config import EngineConfig, ServerConfig


def main() -> int:
    """Serves until the keeper says so; exit status 1 when it cannot."""
    spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=FrontSpec)
    engine_config = EngineConfig.model_validate_json(spec.engine_config)
    server_config = ServerConfig.model_validate_json(spec.server_config)
    logging.basicConfig(
        level=server_config.log_level.upper(),
        format="%(asctime)s front %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    threading.Thread(target=_end_with_keeper, daemon=True).start()
    return asyncio.run(_serve(spec, engine_config, server_config))


async def _serve(spec: FrontSpec, engine_config: EngineConfig, server_config: ServerConfig) -> int:
    def say_ready(url: str) -> None:
        link.is_ready = True
        link.beat()

    server = Server(
        engine_config,
        server_config,
        _tokenizer_factory(spec.tokenizer_factory),
        say_ready,
        is_quiet=spec.generation > 1,
    )

    def end(cause: str) -> None:
        fleet.fail(cause)
        server.give_up(cause)

    def update(membership: Membership) -> None:
        fleet.update(membership.members, membership.num_restarts, membership.pool)

    link = KeeperLink(spec, update, end)
    balancer = QueueTimeBalancer() if server_config.balance_roles else None
    place = Place(
        directory=spec.directory,
        front_generation=spec.generation,
        cluster=spec.cluster,
    )
    fleet = Fleet(
        engine_config,
        server_config,
        place,
        policies=Policies(balancer=balancer),
        ask_change=link.ask_change,
    )
    fleet.start()
    with socket.socket(fileno=spec.listener) as listener:
        await server.serve(listener, spec.url, fleet)
    if server.failure is not None:
        link.fail(server.failure)
    link.close()
    return EXIT_OK if server.failure is None else EXIT_FAILURE


def _tokenizer_factory(name: str) -> TokenizerFactory | None:
    if not name:
        return None
    module_name, _, function_name = name.partition(":")
    return cast(TokenizerFactory, getattr(import_module(module_name), function_name))


def _end_with_keeper() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(EXIT_FAILURE)


if __name__ == "__main__":
    sys.exit(main())
