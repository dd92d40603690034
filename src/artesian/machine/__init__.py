"""What this process may use of its machine: processors and memory, control groups included."""

from artesian.machine.cpu import Cpu, cpu_quota, num_usable_cpus, read_cpu
from artesian.machine.memory import MemoryLimit, memory_limit, resident_bytes

__all__ = [
    "Cpu",
    "MemoryLimit",
    "cpu_quota",
    "memory_limit",
    "num_usable_cpus",
    "read_cpu",
    "resident_bytes",
]
