"""Which processors this process may use, and what they can do."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from artesian.machine import cgroup

_FEATURES = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
)


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor as /proc/cpuinfo names it, and those of its features that kernels use."""

    model_name: str
    features: tuple[str, ...]
    num_cores: int


def read_cpu(root: Path = Path("/")) -> Cpu:
    """The processor of this machine; `num_cores` counts hyper-threads of a core once."""
    name, flags = "unknown", set[str]()
    cores: set[tuple[str, str]] = set()
    package = ""
    try:
        lines = (root / "proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = (part.strip() for part in line.partition(":"))
        if key in ("model name", "Model"):
            name = value
        elif key in ("flags", "Features"):
            flags.update(value.split())
        elif key == "physical id":
            package = value
        elif key == "core id":
            cores.add((package, value))
    features = tuple(feature for feature in _FEATURES if feature in flags)
    return Cpu(name, features, len(cores) or os.cpu_count() or 1)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Processors' worth of time that control groups grant; None when they set no limit."""
    quotas = []
    for directory in cgroup.directories("cpu", root):
        try:
            quota, period = (directory / "cpu.max").read_text().split()
        except (OSError, ValueError):
            quota = str(cgroup.read_number(directory / "cpu.cfs_quota_us") or -1)
            period = str(cgroup.read_number(directory / "cpu.cfs_period_us") or 100_000)
        if quota != "max" and int(quota) > 0:
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def num_usable_cpus(root: Path = Path("/")) -> int:
    """How many threads can run at once: affinity and control groups both count, at least 1."""
    num_cpus = len(os.sched_getaffinity(0))
    quota = cpu_quota(root)
    return num_cpus if quota is None else max(1, min(num_cpus, math.ceil(quota)))
