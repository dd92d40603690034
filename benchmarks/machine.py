"""What machine a result was measured on, in words and numbers."""

import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and the state it was in when the run began.

    Attributes:
        load_average: of the last minute: above 0.5 other work disturbed the run.
    """

    cpu: str
    features: list[str]
    num_cpus: int
    memory_gib: float
    kernel: str
    python: str
    commit: str
    load_average: float
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def describe() -> Machine:
    """This machine, now. Linux only: it reads /proc."""
    cpu, flags = _cpu()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=cpu,
        features=[name for name in _FEATURES if name in flags],
        num_cpus=len(os.sched_getaffinity(0)),
        memory_gib=round(pages / 2**30, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        commit=_commit(),
        load_average=round(os.getloadavg()[0], 2),
    )


def _cpu() -> tuple[str, set[str]]:
    name, family, flags = "unknown", "", set[str]()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "model name":
            name = value
        elif key == "model":
            family = f"model {value}"
        elif key == "flags":
            flags = set(value.split())
            break
    return f"{name} ({family})", flags


def _commit() -> str:
    """Short commit, with + when tracked files differ from it."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
