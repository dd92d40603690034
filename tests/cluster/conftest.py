"""Workers with the toy engine, and a fleet over them; the test is the keeper."""

import contextlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from artesian.cluster.base import Change, MemberRecord
from artesian.cluster.fleet import Fleet, Place, Policies
from artesian.config import EngineConfig, ServerConfig
from artesian.worker.client import Role
from artesian.worker.hooks import Hooks
from artesian.worker.messages import WorkerSpec
from artesian.worker.process import WORKER_MODULE, ChildProcess

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _workers_can_import_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


class Workers:
    """Does by hand what a keeper does by itself."""

    def __init__(self, directory: str, model: str, **settings: int) -> None:
        self.directory = directory
        self.engine = EngineConfig(model=model, **settings)
        self.server = ServerConfig(worker_heartbeat_timeout_s=4)
        self.processes: dict[str, ChildProcess] = {}
        self.records: dict[str, MemberRecord] = {}
        self.fleets: list[Fleet] = []
        self.num_fronts = 0

    def start(self, role: Role = "both", worker_id: str = "") -> str:
        """A worker; its id."""
        worker_id = worker_id or f"w{len(self.records) + 1}"
        known = self.records.get(worker_id)
        generation = 1 if known is None else known.generation + 1
        endpoint = f"ipc://{self.directory}/{worker_id}.{generation}.commands"
        spec = WorkerSpec(
            engine_factory="tests.cluster.toy:create_engine",
            engine_config=self.engine.model_dump_json(),
            command_endpoint=endpoint,
            worker_id=worker_id,
            generation=generation,
            keeper_endpoint=f"ipc://{self.directory}/keeper",
        )
        process = self.processes[worker_id] = ChildProcess(WORKER_MODULE, spec)
        self.records[worker_id] = MemberRecord(
            worker_id=worker_id,
            generation=generation,
            role=role,
            pid=process.pid,
            command_endpoint=endpoint,
        )
        self.tell()
        return worker_id

    def change(self, worker_id: str, **fields: object) -> None:
        self.records[worker_id] = msgspec.structs.replace(self.records[worker_id], **fields)
        self.tell()

    def kill(self, worker_id: str) -> None:
        """Kills it and, once it is dead for certain, says so."""
        self.processes[worker_id].close()
        self.change(worker_id, pid=None, cause="was killed by SIGKILL")

    def stop(self, worker_id: str) -> None:
        self.processes[worker_id].send_signal(signal.SIGSTOP)

    def tell(self) -> None:
        for fleet in self.fleets:
            fleet.update(list(self.records.values()))

    async def front(
        self,
        hooks: Hooks | None = None,
        policies: Policies | None = None,
        ask_change: Callable[[Change], Awaitable[str]] | None = None,
    ) -> Fleet:
        """A front that sees all workers; those before it are forgotten."""
        self.num_fronts += 1
        directory = Path(self.directory) / f"front-{self.num_fronts}"
        directory.mkdir()
        place = Place(front_generation=self.num_fronts, directory=str(directory), cluster="toys")
        fleet = Fleet(
            self.engine,
            self.server,
            place,
            hooks=hooks,
            policies=policies,
            ask_change=ask_change,
        )
        fleet.start()
        self.fleets.append(fleet)
        self.tell()
        await fleet.wait_ready()
        return fleet

    async def close(self) -> None:
        for fleet in self.fleets:
            await fleet.close()
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.close()


StartWorkers = Callable[..., Workers]
Closer = Callable[[Workers], Awaitable[None]]


@pytest.fixture
async def make_workers() -> AsyncIterator[StartWorkers]:
    made: list[Workers] = []
    with tempfile.TemporaryDirectory(prefix="artesian-test-", dir="/tmp") as directory:

        def make(*roles: Role, model: str = "toy:5", **settings: int) -> Workers:
            workers = Workers(directory, model, **settings)
            made.append(workers)
            for role in roles:
                workers.start(role)
            return workers

        yield make
        for workers in made:
            await workers.close()
