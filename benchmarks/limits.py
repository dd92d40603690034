"""What this machine can do at best: read bandwidth and multiply-adds a second, from limits.c."""

import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from machine import ROOT

SOURCE = Path(__file__).with_name("limits.c")
BINARY = ROOT / ".bench" / "limits"
# Far more than any cache of this machine holds for one process.
_MEMORY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Best figures of the given number of threads together.

    Attributes:
        read_gbps: bytes of a working set -> GB/s of reading it again and again; small sets may
            stay in a cache, so a model is compared with the figure of its own size.
        int8_unit, bf16_unit: the widest instruction family that does it; bf16 may be "none".
    """

    num_threads: int
    read_gbps: dict[int, float]
    fp32_gmacs: float
    int8_gmacs: float
    int8_unit: str
    bf16_gmacs: float
    bf16_unit: str

    def read_bytes_per_s(self, working_set_bytes: int) -> float:
        """Of the measured size nearest to `working_set_bytes`."""
        nearest = min(self.read_gbps, key=lambda size: abs(size - working_set_bytes))
        return self.read_gbps[nearest] * 1e9

    def best_with(self, other: "Limits") -> "Limits":
        """The better of two measurements of each figure: the less disturbed one."""
        reads = {s: max(g, other.read_gbps.get(s, 0.0)) for s, g in self.read_gbps.items()}
        return Limits(
            self.num_threads,
            reads,
            max(self.fp32_gmacs, other.fp32_gmacs),
            max(self.int8_gmacs, other.int8_gmacs),
            self.int8_unit,
            max(self.bf16_gmacs, other.bf16_gmacs),
            self.bf16_unit,
        )

    def describe(self) -> str:
        """One line for people."""
        reads = ", ".join(f"{g:.0f} GB/s over {s / 1e6:.0f} MB" for s, g in self.read_gbps.items())
        bf16 = (
            "" if self.bf16_unit == "none" else f", bf16 {self.bf16_gmacs:.0f} ({self.bf16_unit})"
        )
        return (
            f"{self.num_threads} threads read {reads}; billions of multiply-adds a second: "
            f"fp32 {self.fp32_gmacs:.0f}, INT8 {self.int8_gmacs:.0f} ({self.int8_unit}){bf16}"
        )

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def measure(num_threads: int, working_sets_bytes: list[int]) -> Limits:
    """Runs limits.c, compiling it first when it changed.

    Raises `RuntimeError` when there is no C compiler or the processor is not x86-64.
    """
    _build()
    sizes = sorted({*working_sets_bytes, _MEMORY_BYTES})
    command = [str(BINARY), str(num_threads), *map(str, sizes)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found["read_gbps"] = {int(size): gbps for size, gbps in found["read_gbps"].items()}
    return Limits(num_threads=num_threads, **found)


def _build() -> None:
    if BINARY.exists() and BINARY.stat().st_mtime > SOURCE.stat().st_mtime:
        return
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("no C compiler found for limits.c; install gcc or set CC")
    BINARY.parent.mkdir(exist_ok=True)
    flags = ["-O3", "-march=native", "-ffast-math", "-pthread"]
    result = subprocess.run(
        [compiler, *flags, str(SOURCE), "-o", str(BINARY)], capture_output=True, text=True
    )
    if result.returncode != 0:
        raise RuntimeError(f"{compiler} cannot build limits.c:\n{result.stderr}")
