"""Memory limits, read from a made-up machine."""

from pathlib import Path

from artesian.machine import memory_limit, resident_bytes

GIB = 1 << 30


def make_machine(root: Path, group_line: str, files: dict[str, str]) -> Path:
    """A root directory with 16 GiB of memory, 8 GiB of it available, and some control files."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(
        f"MemTotal: {16 << 20} kB\nMemAvailable: {8 << 20} kB\nHugePages_Total: 0\n"
    )
    (root / "proc/self/cgroup").write_text(group_line + "\n")
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_without_groups_the_machine_limits(tmp_path: Path) -> None:
    limit = memory_limit(make_machine(tmp_path, "0::/", {}))
    assert (limit.total_bytes, limit.available_bytes) == (16 * GIB, 8 * GIB)
    assert limit.source == "machine"


def test_version_2_group_of_a_parent_limits(tmp_path: Path) -> None:
    files = {
        "pod/memory.max": str(4 * GIB),
        "pod/memory.current": str(3 * GIB),
        "pod/memory.stat": f"anon {GIB}\nactive_file {GIB}\ninactive_file {GIB}\n",
        "pod/box/memory.max": "max\n",
    }
    limit = memory_limit(make_machine(tmp_path, "0::/pod/box", files))
    assert (limit.total_bytes, limit.available_bytes) == (4 * GIB, 3 * GIB)
    assert limit.source.endswith("pod")


def test_inside_a_container_only_the_mount_is_visible(tmp_path: Path) -> None:
    files = {"memory.max": str(2 * GIB), "memory.current": str(GIB)}
    limit = memory_limit(make_machine(tmp_path, "0::/not/visible", files))
    assert limit.available_bytes == GIB


def test_version_1_group(tmp_path: Path) -> None:
    files = {
        "memory/box/memory.limit_in_bytes": str(GIB),
        "memory/box/memory.usage_in_bytes": str(2 * GIB),
        "memory/memory.limit_in_bytes": str((1 << 63) - 4096),
    }
    limit = memory_limit(make_machine(tmp_path, "4:memory:/box", files))
    assert (limit.total_bytes, limit.available_bytes) == (GIB, 0)


def test_a_group_above_the_machine_does_not_count(tmp_path: Path) -> None:
    limit = memory_limit(make_machine(tmp_path, "0::/", {"memory.max": str(64 * GIB)}))
    assert limit.source == "machine"


def test_resident_memory_grows_with_use() -> None:
    before = resident_bytes()
    ballast = b"x" * (64 << 20)
    assert resident_bytes() - before > len(ballast) // 2
