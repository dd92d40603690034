"""How much memory the KV blocks may take: worked out once at start, printed, and kept."""

from dataclasses import dataclass

from artesian.machine import MemoryLimit

_DEFAULT_SHARE = (
    8  # by default KV takes at most an eighth of the limit: a laptop's server stays modest
)
_RESERVE_BYTES = 256 << 20  # Python, activations, tokenizer

_MIB = 1 << 20


class MemoryPlanError(ValueError):
    """The model does not fit; the message names the sizes and what to change."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The decision: `num_blocks` KV blocks and the longest sequence that they allow."""

    limit: MemoryLimit
    weight_bytes: int
    block_bytes: int
    block_size_tokens: int
    num_blocks: int
    max_model_len: int

    @property
    def kv_bytes(self) -> int:
        """Memory of all blocks, backed only as it is used."""
        return self.num_blocks * self.block_bytes

    def __str__(self) -> str:
        return (
            f"memory: limit {self.limit.total_bytes / _MIB:,.0f} MiB ({self.limit.source}), "
            f"available {self.limit.available_bytes / _MIB:,.0f} MiB; "
            f"weights {self.weight_bytes / _MIB:,.0f} MiB (mapped); "
            f"KV cache up to {self.kv_bytes / _MIB:,.0f} MiB: "
            f"{self.num_blocks:,} blocks of {self.block_size_tokens} tokens, "
            f"{self.num_blocks * self.block_size_tokens:,} tokens; "
            f"max_model_len {self.max_model_len:,}"
        )


def plan_memory(
    limit: MemoryLimit,
    weight_bytes: int,
    block_bytes: int,
    block_size_tokens: int,
    model_max_len: int,
    max_num_seqs: int,
    max_model_len: int | None = None,
    kv_cache_memory_bytes: int | None = None,
) -> MemoryPlan:
    """Sizes the KV arena.

    By default it holds `max_num_seqs` sequences of full length, or an eighth of the limit if that
    is less. `max_model_len` asked for is kept or refused with `MemoryPlanError`; else it shrinks to
    fit.
    """
    if max_model_len is not None and max_model_len > model_max_len:
        raise MemoryPlanError(
            f"max_model_len is {max_model_len}, but the model was made for at most "
            f"{model_max_len} tokens"
        )
    length = max_model_len or model_max_len
    blocks_per_sequence = -(-length // block_size_tokens)
    room = (min(limit.available_bytes, limit.total_bytes) - weight_bytes - _RESERVE_BYTES) * 9 // 10
    if kv_cache_memory_bytes is not None:
        if kv_cache_memory_bytes > room:
            raise MemoryPlanError(
                f"kv_cache_memory_bytes is {kv_cache_memory_bytes / _MIB:,.0f} MiB, but beside the "
                f"weights ({weight_bytes / _MIB:,.0f} MiB) there is room for "
                f"{max(room, 0) / _MIB:,.0f} MiB ({limit.source})"
            )
        num_blocks = kv_cache_memory_bytes // block_bytes
    else:
        share = limit.total_bytes // _DEFAULT_SHARE
        if max_model_len is not None:  # asked for, so one such sequence must fit at least
            share = max(share, blocks_per_sequence * block_bytes)
        num_blocks = min(min(share, room) // block_bytes, blocks_per_sequence * max_num_seqs)
    num_blocks = min(num_blocks, blocks_per_sequence * max_num_seqs)
    if num_blocks < blocks_per_sequence:
        length = _shrink(num_blocks, block_size_tokens, block_bytes, max_model_len, length)
    return MemoryPlan(limit, weight_bytes, block_bytes, block_size_tokens, num_blocks, length)


def _shrink(
    num_blocks: int, block_size: int, block_bytes: int, asked: int | None, length: int
) -> int:
    """The length that fits, or an error when a length was asked for or nothing fits."""
    needed = -(-length // block_size) * block_bytes
    if asked is not None or num_blocks < 1:
        raise MemoryPlanError(
            f"one sequence of {length} tokens needs {needed / _MIB:,.1f} MiB of KV cache, but only "
            f"{max(num_blocks, 0) * block_bytes / _MIB:,.1f} MiB are planned: lower max_model_len, "
            "or raise kv_cache_memory_bytes or the memory limit"
        )
    return num_blocks * block_size
