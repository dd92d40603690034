"""What each worker of a cluster gets of the machine."""

import os
from dataclasses import dataclass

from artesian.cluster.base import ClusterError
from artesian.cluster.context_pool import REPLICAS
from artesian.config import EngineConfig, ServerConfig
from artesian.machine import memory_limit, num_usable_cpus
from artesian.worker.client import Role

MIN_WORKER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Shares:
    """The same for all workers.

    Attributes:
        num_threads: of each one's kernels.
        memory_bytes: that each may plan with.
        cpus: of the worker that is started first, second, ...; empty: they are not pinned.
    """

    num_threads: int
    memory_bytes: int
    cpus: tuple[tuple[int, ...], ...] = ()

    def cpus_of(self, index: int) -> list[int]:
        """The processors of a worker by number; those that come late share with earlier ones."""
        return list(self.cpus[index % len(self.cpus)]) if self.cpus else []


def roles(config: ServerConfig) -> list[Role]:
    """The roles of the workers that are started, in order."""
    prefill: list[Role] = ["prefill"] * config.prefill
    decode: list[Role] = ["decode"] * config.decode
    both: list[Role] = ["both"] * config.num_both
    return prefill + decode + both


def divide(
    engine: EngineConfig,
    config: ServerConfig,
    *,
    cpus: list[int] | None = None,
    available_bytes: int | None = None,
) -> Shares:
    """Divides processors and memory evenly. The default is what this process may use.

    Raises:
        ClusterError: there is not enough, or settings exclude each other.
    """
    num_workers = len(roles(config))
    own = sorted(os.sched_getaffinity(0)) if cpus is None else cpus
    num_cpus = num_usable_cpus() if cpus is None else len(cpus)
    if engine.num_threads is not None and config.threads_per_worker is not None:
        raise ClusterError("num_threads and threads_per_worker say the same: give one of them")
    asked = config.threads_per_worker or engine.num_threads
    num_threads = asked or max(1, num_cpus // num_workers)
    available = memory_limit().available_bytes if available_bytes is None else available_bytes
    if config.memory_nodes:
        available -= engine.context_pool_bytes * min(config.memory_nodes, REPLICAS)
    share = available // num_workers
    if share < MIN_WORKER_BYTES:
        raise ClusterError(
            f"{num_workers} workers would have {max(share, 0) >> 20} MiB of memory each; start "
            "fewer, or lower context_pool_bytes"
        )
    pinned: tuple[tuple[int, ...], ...] = ()
    if config.pin_workers:
        width = min(num_threads, len(own))
        pinned = tuple(
            tuple(own[(index * width + offset) % len(own)] for offset in range(width))
            for index in range(num_workers)
        )
    return Shares(num_threads, share, pinned)
