"""How much attention may be offloaded: Adrenaline's bounds (2503.20552, section on scheduling).

Reconstructed from descriptions of the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttentionCapacity:
    """What attention may use of an instance: memory for KV, and the rate at which it reads it."""

    kv_bytes: float
    bytes_per_s: float


def memory_bound(executors: Sequence[AttentionCapacity], decode: AttentionCapacity) -> float:
    """OB_mem = min(sum HBM_p / HBM_d, sum BW_p / BW_d): offloaded to local KV that executors hold,
    and read while local attention lasts.

    Raises:
        ValueError: the decode instance has no memory or bandwidth.
    """
    if decode.kv_bytes <= 0 or decode.bytes_per_s <= 0:
        raise ValueError(f"a decode instance needs memory and bandwidth for KV, not {decode}")
    return min(
        sum(executor.kv_bytes for executor in executors) / decode.kv_bytes,
        sum(executor.bytes_per_s for executor in executors) / decode.bytes_per_s,
    )


def compute_bound(max_batch: float, slo_batch: float) -> float:
    """OB_comp = (B_max - B_TPOT) / B_TPOT: more rows only pay until the other kernels saturate.

    Args:
        max_batch: B_max, at which kernels other than attention are bound by arithmetic.
        slo_batch: B_TPOT, the largest batch that meets the TPOT target without offloading.
    """
    return max(0.0, (max_batch - slo_batch) / slo_batch) if slo_batch > 0 else 0.0


def offload_bound(
    executors: Sequence[AttentionCapacity],
    decode: AttentionCapacity,
    max_batch: float,
    slo_batch: float,
) -> float:
    """OB = min(OB_mem, OB_comp), the ratio offloaded : local. Raises as `memory_bound`."""
    return min(memory_bound(executors, decode), compute_bound(max_batch, slo_batch))
