"""Runs a server of several workers: a keeper, which starts everything else."""

import asyncio
from collections.abc import Callable

from artesian.api.server import EXIT_OK, cannot_listen, fail, listen, url_of
from artesian.cluster.base import ClusterError
from artesian.cluster.keeper import Keeper, KeeperSettings
from artesian.config import EngineConfig, ServerConfig
from artesian.pool import PoolError


def run_cluster(
    engine_config: EngineConfig,
    server_config: ServerConfig,
    *,
    engine_factory: str,
    tokenizer_factory: str,
    on_ready: Callable[[str], None] | None,
) -> int:
    """See `run_server`; factories are `module:function`, as other processes run them."""
    try:
        listener = listen(server_config)
    except OSError as error:
        return fail(cannot_listen(server_config, error))
    url = url_of(server_config, listener)

    def say_ready() -> None:
        if on_ready is not None:
            on_ready(url)

    settings = KeeperSettings(
        engine_config=engine_config,
        server_config=server_config,
        engine_factory=engine_factory,
        tokenizer_factory=tokenizer_factory,
        listener=listener,
        url=url,
        on_ready=say_ready,
    )
    with listener:
        try:
            failure = asyncio.run(_run(settings))
        except (ClusterError, PoolError) as error:
            return fail(str(error))
        except OSError as error:
            return fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return EXIT_OK if failure is None else fail(failure)


async def _run(settings: KeeperSettings) -> str | None:
    return await Keeper(settings).run()
