"""Processor limits, read from a made-up machine."""

import os
from pathlib import Path

from artesian.machine import cpu_quota, num_usable_cpus, read_cpu

CPUINFO = """\
processor	: 0
model name	: Test CPU
physical id	: 0
core id		: 0
flags		: fpu avx2 fma amx_int8

processor	: 1
physical id	: 0
core id		: 0
flags		: fpu avx2 fma amx_int8
"""


def make_machine(root: Path, group_line: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text(CPUINFO)
    (root / "proc/self/cgroup").write_text(group_line + "\n")
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_hyper_threads_are_one_core(tmp_path: Path) -> None:
    cpu = read_cpu(make_machine(tmp_path, "0::/", {}))
    assert (cpu.model_name, cpu.num_cores) == ("Test CPU", 1)
    assert cpu.features == ("avx2", "fma", "amx_int8")


def test_tightest_quota_counts(tmp_path: Path) -> None:
    files = {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n", "cpu.max": "max 1"}
    root = make_machine(tmp_path, "0::/a/b", files)
    assert cpu_quota(root) == 1.5
    assert num_usable_cpus(root) == min(2, len(os.sched_getaffinity(0)))


def test_version_1_quota(tmp_path: Path) -> None:
    files = {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"}
    root = make_machine(tmp_path, "2:cpu,cpuacct:/a", files)
    assert cpu_quota(root) == 0.5
    assert num_usable_cpus(root) == 1


def test_no_quota(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
    root = make_machine(tmp_path, "2:cpu:/", files)
    assert cpu_quota(root) is None
    assert num_usable_cpus(root) == len(os.sched_getaffinity(0))
