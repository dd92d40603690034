"""Writes small GGUF files, right ones and damaged ones, byte by byte."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from artesian.loader.base import TensorFormat
from artesian.loader.gguf_header import BLOCKS

FORMAT_IDS: dict[TensorFormat, int] = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q8_0": 8,
    "q4_k": 12,
    "bf16": 30,
}
Stored = tuple[tuple[int, ...], TensorFormat]


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(item: Any) -> bytes:
    """A metadata value with its type; lists are arrays of one type."""
    if isinstance(item, list):
        parts = [value(element) for element in item]
        kind = parts[0][:4] if parts else struct.pack("<I", 8)
        return (
            struct.pack("<I", 9)
            + kind
            + struct.pack("<Q", len(item))
            + b"".join(part[4:] for part in parts)
        )
    if isinstance(item, bool):
        return struct.pack("<I?", 7, item)
    if isinstance(item, int):
        return struct.pack("<II", 4, item)
    if isinstance(item, float):
        return struct.pack("<If", 6, item)
    return struct.pack("<I", 8) + text(str(item))


def tensor_bytes(shape: tuple[int, ...], tensor_format: TensorFormat) -> int:
    block_values, block_bytes = BLOCKS[tensor_format]
    return int(np.prod(shape)) // block_values * block_bytes


def gguf(
    metadata: dict[str, Any],
    tensors: dict[str, Stored],
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    num_tensors: int | None = None,
    num_entries: int | None = None,
    offsets: dict[str, int] | None = None,
    format_id: int | None = None,
) -> bytes:
    """A GGUF file with random small weights; the keyword arguments make it wrong."""
    counts = (
        len(tensors) if num_tensors is None else num_tensors,
        len(metadata) if num_entries is None else num_entries,
    )
    header = magic + struct.pack("<IQQ", version, *counts)
    header += b"".join(text(key) + value(item) for key, item in metadata.items())
    random = np.random.RandomState(0)
    body = b""
    for name, (shape, tensor_format) in tensors.items():
        offset = (offsets or {}).get(name, len(body))
        kind = FORMAT_IDS[tensor_format] if format_id is None else format_id
        header += text(name) + struct.pack("<I", len(shape))
        header += struct.pack(f"<{len(shape)}Q", *shape[::-1])
        header += struct.pack("<IQ", kind, offset)
        if tensor_format == "f32":
            data = (random.standard_normal(shape) * 0.1).astype("<f4").tobytes()
        else:
            data = bytes(tensor_bytes(shape, tensor_format))
        body += data + bytes(-len(data) % 32)
    return header + bytes(-len(header) % 32) + body


def llama_metadata() -> dict[str, Any]:
    """Metadata of a Llama with two layers and a byte-level vocabulary."""
    tokens = ["<s>", "</s>", "a", "b", "ab", "Ġ", "Ġab", "c"]
    return {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.context_length": 128,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, 1, 1, 1, 1, 1, 1],
        "tokenizer.ggml.merges": ["a b", "Ġ ab"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }


def llama_tensors() -> dict[str, Stored]:
    """The tensors that `llama_metadata` promises."""
    tensors: dict[str, Stored] = {
        "token_embd.weight": ((8, 64), "f32"),
        "output_norm.weight": ((64,), "f32"),
    }
    for layer in range(2):
        shapes: dict[str, tuple[int, ...]] = {
            "attn_norm": (64,),
            "attn_q": (64, 64),
            "attn_k": (32, 64),
            "attn_v": (32, 64),
            "attn_output": (64, 64),
            "ffn_norm": (64,),
            "ffn_gate": (96, 64),
            "ffn_up": (96, 64),
            "ffn_down": (64, 96),
        }
        tensors |= {f"blk.{layer}.{n}.weight": (shape, "f32") for n, shape in shapes.items()}
    return tensors


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
