"""Whether pools of shared memory can be made, and whether any were left behind."""

import os
from pathlib import Path

from artesian.doctor.base import Finding, format_bytes

SHARED_MEMORY = Path("/dev/shm")
MIN_SHARED_BYTES = 1 << 30
"""Containers often get 64 MiB, which is no room for a pool."""


def check_shared_memory() -> Finding:
    """The memory that pools can lie in."""
    name = "shared memory"
    hint = "mount it: mount -t tmpfs tmpfs /dev/shm; in a container: --shm-size 4g or --ipc=host"
    try:
        space = os.statvfs(SHARED_MEMORY)
    except OSError as error:
        return Finding(name, "warning", f"{SHARED_MEMORY}: {error.strerror}", hint)
    size_bytes, free_bytes = space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize
    detail = f"{format_bytes(free_bytes)} free of {format_bytes(size_bytes)} in {SHARED_MEMORY}"
    if size_bytes < MIN_SHARED_BYTES:
        return Finding(name, "warning", f"{detail}: pools need more", hint)
    return Finding(name, "ok", detail)


def check_pools() -> Finding:
    """Pools that take memory though nobody uses them."""
    try:
        from artesian.pool import PoolError, list_pools, pool_stats
    except ImportError as error:
        return Finding("pools", "error", f"the native module does not load: {error}")
    unused: list[str] = []
    damaged: list[str] = []
    names = list_pools()
    for name in names:
        try:
            if not any(client.is_alive for client in pool_stats(name).clients):
                unused.append(name)
        except PoolError as error:
            damaged.append(f"{name} ({error})")
    if damaged:
        return Finding(
            "pools",
            "warning",
            f"cannot be used: {'; '.join(damaged)}",
            "artesian pool remove NAME, if nobody is just creating it",
        )
    if unused:
        return Finding(
            "pools",
            "warning",
            f"no process uses {', '.join(unused)}",
            f"if it is not needed any more: artesian pool remove {unused[0]}",
        )
    return Finding("pools", "ok", f"{len(names)}, all in use" if names else "none")
