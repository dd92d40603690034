"""A supervised worker with the toy engine in it."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from artesian.config import EngineConfig, ServerConfig
from artesian.worker.hooks import Hooks
from artesian.worker.supervisor import Supervisor

ROOT = Path(__file__).parents[2]
StartSupervisor = Callable[..., Awaitable[Supervisor]]


@pytest.fixture(autouse=True)
def _worker_can_import_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


@pytest.fixture
async def start_supervisor() -> AsyncIterator[StartSupervisor]:
    """Starts supervisors and waits until their worker is ready (or failed)."""
    async with AsyncExitStack() as stack:

        async def start(
            model: str = "toy",
            server: ServerConfig | None = None,
            hooks: Hooks | None = None,
            **settings: int,
        ) -> Supervisor:
            supervisor = Supervisor(
                EngineConfig(model=model, **settings),
                server or ServerConfig(),
                engine_factory="tests.worker.toy:create_engine",
                hooks=hooks,
            )
            supervisor.start()
            stack.push_async_callback(supervisor.close)
            await supervisor.wait_ready()
            return supervisor

        yield start
