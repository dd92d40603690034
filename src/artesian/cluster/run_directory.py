"""Where the processes of a cluster meet, and what of a dead cluster is swept away.

A keeper holds a lock in its directory for as long as it lives, however it ends. A directory without
a lock belongs to a dead one: its record names what else that has left behind. Only names that are
written there are touched.
"""

import contextlib
import fcntl
import logging
import os
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from artesian.cluster.base import ClusterError
from artesian.kvcache.region import region_names, remove_region
from artesian.pool import Pool, PoolError

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")
KILL_TIMEOUT_S = 5.0
LOCK_ATTEMPTS = 20
LOCK_INTERVAL_S = 0.1
_MAX_PATH_BYTES = 60
"""Of the parent: a socket's path has 107 bytes in all."""


class _Record(msgspec.Struct):
    """What a cluster has outside its directory: its pools, and (pid, start time) of processes."""

    pools: list[str] = []
    processes: list[tuple[int, int]] = []


class RunDirectory:
    """The directory of one cluster while its keeper lives; a context manager."""

    def __init__(self, cluster: str, parent: Path | None = None) -> None:
        """Makes the directory, after what dead clusters have left was swept away.

        Raises:
            ClusterError: a cluster of that name is running.
            OSError: the directory cannot be made.
        """
        self.cluster = cluster
        parent = parent or default_parent()
        _make_private(parent)
        sweep(parent)
        self.path = parent / cluster
        lock = self._enter()
        if lock is None:
            raise ClusterError(
                f"a cluster named {cluster} is running already; choose another --cluster-name"
            )
        self._lock = lock
        self._record = _Record()
        self._write()

    def _enter(self) -> int | None:
        """The lock; somebody who sweeps may have it for a moment, or remove the directory."""
        for _ in range(LOCK_ATTEMPTS):
            self.path.mkdir(mode=0o700, exist_ok=True)
            lock = _lock(self.path)
            if lock is not None:
                return lock
            time.sleep(LOCK_INTERVAL_S)
        return None

    def endpoint(self, name: str) -> str:
        """The address of a socket in the directory."""
        return f"ipc://{self.path}/{name}"

    def note_pool(self, name: str) -> None:
        """The cluster has made this pool, and removes it at its end."""
        self._record.pools.append(name)
        self._write()

    def note_processes(self, pids: list[int]) -> None:
        """The cluster's processes are these."""
        started = ((pid, start_time(pid)) for pid in pids)
        self._record.processes = [(pid, ticks) for pid, ticks in started if ticks is not None]
        self._write()

    def close(self) -> None:
        """Removes the directory, the pools that were noted, and regions that are left."""
        _remove_leftovers(self.cluster, self._record)
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self) -> None:
        new = self.path / "record.new"
        new.write_bytes(msgspec.json.encode(self._record))
        new.replace(self.path / "record")


def default_parent() -> Path:
    """This user's directory of clusters."""
    parent = tempfile.gettempdir()
    if len(parent.encode()) > _MAX_PATH_BYTES:
        parent = "/tmp"
    return Path(parent) / f"artesian-{os.geteuid()}"


def sweep(parent: Path) -> None:
    """Removes what dead clusters have left: their processes, pools, regions and directories."""
    for path in parent.iterdir():
        lock = _lock(path)
        if lock is None:
            continue
        logger.info("removing what the cluster %s has left", path.name)
        _remove_leftovers(path.name, _read(path))
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def region_of(cluster: str, worker_id: str, generation: int) -> str:
    """The name of a worker's shared memory."""
    return f"{cluster}-{worker_id}-{generation}"


def is_region_of(cluster: str, region: str) -> bool:
    """Whether that is a worker's of this cluster."""
    return re.fullmatch(rf"{re.escape(cluster)}-w[0-9]+-[0-9]+", region) is not None


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _make_private(parent: Path) -> None:
    """Raises `ClusterError` when others could put something there."""
    parent.mkdir(mode=0o700, exist_ok=True)
    status = parent.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise ClusterError(f"{parent} has to be this user's alone (mode 700); remove it")


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock of a cluster's directory; None if somebody else does."""
    try:
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Somebody may have removed the directory and made it anew in between.
        if os.fstat(descriptor).st_ino == (path / "lock").stat().st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _read(path: Path) -> _Record:
    """What a dead cluster has noted; nothing if that cannot be read."""
    try:
        return msgspec.json.decode((path / "record").read_bytes(), type=_Record)
    except (OSError, msgspec.MsgspecError):
        return _Record()


def _remove_leftovers(cluster: str, record: _Record) -> None:
    for pid, ticks in record.processes:
        _kill(pid, ticks)
    for region in region_names():
        if is_region_of(cluster, region):
            remove_region(region)
    for pool in record.pools:
        with contextlib.suppress(PoolError):
            Pool.remove(pool)
        # One that is damaged cannot be opened to be removed.
        for path in SHARED_MEMORY.glob(f"artesian.{os.geteuid()}.{pool}.node*"):
            path.unlink(missing_ok=True)


def _kill(pid: int, ticks: int) -> None:
    """Ends a process, and waits for that, if it is the one that started then."""
    deadline = time.monotonic() + KILL_TIMEOUT_S
    while start_time(pid) == ticks and time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
