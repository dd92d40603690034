"""How much memory this process may use, and how much it does."""

from dataclasses import dataclass
from pathlib import Path

from artesian.machine import cgroup

# Version 1 says "no limit" with a number near 2^63.
_UNLIMITED_BYTES = 1 << 60
_CONTROL_FILES = (
    # limit, usage: version 2, then version 1
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """The tightest limit on this process.

    Attributes:
        total_bytes: the limit itself.
        available_bytes: what is left of it; page cache counts as available.
        source: `machine`, or the control group's directory.
    """

    total_bytes: int
    available_bytes: int
    source: str

    def bounded(self, most_bytes: int | None) -> "MemoryLimit":
        """The same, if that is not above `most_bytes`."""
        if most_bytes is None or most_bytes >= self.available_bytes:
            return self
        return MemoryLimit(min(self.total_bytes, most_bytes), most_bytes, "memory_limit_bytes")


def memory_limit(root: Path = Path("/")) -> MemoryLimit:
    """The limit that leaves the least memory: the machine's or a control group's.

    Raises `OSError` when /proc/meminfo cannot be read.
    """
    info = _meminfo(root)
    tightest = MemoryLimit(info["MemTotal"], info.get("MemAvailable", info["MemTotal"]), "machine")
    for directory in cgroup.directories("memory", root):
        for limit_file, usage_file in _CONTROL_FILES:
            total = cgroup.read_number(directory / limit_file)
            if total is None or total >= min(_UNLIMITED_BYTES, info["MemTotal"]):
                continue
            used = cgroup.read_number(directory / usage_file) or 0
            available = min(max(0, total - used + _page_cache_bytes(directory)), total)
            if available < tightest.available_bytes:
                tightest = MemoryLimit(total, available, str(directory))
    return tightest


def resident_bytes(root: Path = Path("/")) -> int:
    """Resident memory of this process, shared file pages included."""
    return _status_bytes(root, "VmRSS")


def _meminfo(root: Path) -> dict[str, int]:
    """/proc/meminfo, in bytes."""
    sizes = {}
    for line in (root / "proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if len(fields) == 2 and fields[1] == "kB":
            sizes[name] = int(fields[0]) * 1024
    return sizes


def _status_bytes(root: Path, name: str) -> int:
    """One size of /proc/self/status."""
    for line in (root / "proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _page_cache_bytes(directory: Path) -> int:
    """File pages charged to a group that the kernel gives back under pressure."""
    try:
        lines = (directory / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(
        int(value)
        for name, _, value in (line.partition(" ") for line in lines)
        if name in ("active_file", "inactive_file")
    )
