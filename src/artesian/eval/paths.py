"""Perplexity of the ways in which the engine can compute one model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from artesian.eval.perplexity import Perplexity, PerplexityDifference, difference, perplexity
from artesian.kvcache import Arena
from artesian.loader import Checkpoint
from artesian.loader.float_checkpoint import FloatCheckpoint
from artesian.loader.native import NativeRunner
from artesian.ops.base import KvDtype, KvLayout
from artesian.ops.native import Isa, default_kv_dtype, kv_block_bytes

_BLOCK_SIZE_TOKENS = 32
_MAX_ROWS = 64


@dataclass(frozen=True, slots=True)
class PathResult:
    """One way of computing: its perplexity, and its difference from the first way."""

    name: str
    perplexity: Perplexity
    difference: PerplexityDifference | None


def compare_paths(
    checkpoint: Checkpoint,
    token_ids: Sequence[int],
    *,
    window_tokens: int,
    stride_tokens: int,
    num_threads: int,
    isa: Isa | None = None,
) -> Iterator[PathResult]:
    """Yields the results as they come: float32 throughout first, then what the engine does.

    Args:
        checkpoint: the model; its tensors are also dequantised to float32 (4 bytes a weight).
        token_ids: the text without bos.
        window_tokens, stride_tokens: see `perplexity`.
        num_threads: kernel threads.
        isa: instruction set; the best of this machine when None.
    """
    dtype = default_kv_dtype(isa)
    paths: list[tuple[str, Checkpoint, KvDtype, bool]] = [
        ("float32 arithmetic, float32 KV", FloatCheckpoint(checkpoint), "f32", False),
        ("as stored, float32 KV", checkpoint, "f32", False),
        (f"as stored, {dtype} KV (default)", checkpoint, dtype, False),
        ("as stored, int8 KV", checkpoint, "int8", False),
        (f"INT8 weights, {dtype} KV", checkpoint, dtype, True),
    ]
    base: Perplexity | None = None
    config = checkpoint.config
    for name, source, kv_dtype, int8 in paths:
        layout = KvLayout(
            config.num_layers, config.num_kv_heads, config.head_dim, _BLOCK_SIZE_TOKENS, kv_dtype
        )
        arena = Arena(-(-window_tokens // _BLOCK_SIZE_TOKENS), kv_block_bytes(layout))
        result = perplexity(
            NativeRunner(
                source,
                layout,
                arena.memory,
                max_rows=_MAX_ROWS,
                num_threads=num_threads,
                isa=isa,
                int8=int8,
            ),
            token_ids,
            window_tokens=window_tokens,
            stride_tokens=stride_tokens,
            block_size_tokens=_BLOCK_SIZE_TOKENS,
            first_token_id=checkpoint.tokenizer().bos_token_id,
        )
        yield PathResult(name, result, None if base is None else difference(result, base))
        base = base or result
