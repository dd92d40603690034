"""Names of KV blocks: chained BLAKE3 hashes, equal in every process and on every machine.

A name covers everything that the numbers in the block depend on. The encoding is in
docs/KV_BLOCKS.md with test vectors; changing anything about it means raising `FORMAT_VERSION`.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from blake3 import blake3

FORMAT_VERSION = 1
HASH_BYTES = 32
ROOT = b""
"""The parent of a sequence's first block."""


@dataclass(frozen=True, slots=True)
class KvIdentity:
    """What the KV of a deployment depends on, apart from tokens.

    Attributes:
        namespace: separates deployments that must not share.
        model_fingerprint: changes with weights or config.
        extra: anything else that changes the numbers (adapter, attention mode, position scheme);
        the order of keys does not matter.
    """

    model_fingerprint: str
    kv_dtype: str
    block_size_tokens: int
    namespace: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


def encode_field(value: bytes) -> bytes:
    """`value` behind its length as u32 LE: no two lists of fields encode alike."""
    return struct.pack("<I", len(value)) + value


class BlockHasher:
    """Hashes blocks of one identity and one cache salt."""

    def __init__(self, identity: KvIdentity, cache_salt: str = "") -> None:
        head = (
            b"artesian.kv",
            struct.pack("<I", FORMAT_VERSION),
            identity.namespace.encode(),
            cache_salt.encode(),
            identity.model_fingerprint.encode(),
            identity.kv_dtype.encode(),
            struct.pack("<I", identity.block_size_tokens),
        )
        extra = [part.encode() for pair in sorted(identity.extra.items()) for part in pair]
        self.block_size_tokens = identity.block_size_tokens
        self._head = b"".join(map(encode_field, head))
        self._tail = struct.pack("<I", len(extra)) + b"".join(map(encode_field, extra))

    def block_hash(self, parent: bytes, token_ids: npt.NDArray[np.int32]) -> bytes:
        """Name (32 bytes) of the block that holds `token_ids` (exactly one block) behind
        `parent`."""
        if len(token_ids) != self.block_size_tokens:
            raise ValueError(f"a block holds {self.block_size_tokens} tokens, got {len(token_ids)}")
        tokens = token_ids.astype("<u4").tobytes()
        message = self._head + encode_field(parent) + encode_field(tokens) + self._tail
        return blake3(message).digest()

    def extend(self, hashes: list[bytes], token_ids: npt.NDArray[np.int32]) -> None:
        """Appends to `hashes`, the names of the first blocks, those of the other full blocks."""
        size = self.block_size_tokens
        parent = hashes[-1] if hashes else ROOT
        for index in range(len(hashes), len(token_ids) // size):
            parent = self.block_hash(parent, token_ids[index * size : (index + 1) * size])
            hashes.append(parent)


def window_name(
    untruncated: bytes, *, window: int, sinks: int, step: int, start: int, cut: int
) -> bytes:
    """Name (32 bytes) of a block whose tokens stand where truncation has put them.

    Args:
        untruncated: what the block would be called if nothing had been dropped: it stands for all
            tokens up to the block's end.
        window, sinks, step: blocks of the context window, of its beginning that stays, and of what
            one overflow drops.
        start: overflows that were skipped: the text that was left was computed like any other.
        cut: overflows in all; from `start` on, what stayed was moved with its KV.
    """
    fields = (
        b"artesian.kv.window",
        struct.pack("<I", FORMAT_VERSION),
        untruncated,
        struct.pack("<5I", window, sinks, step, start, cut),
    )
    return blake3(b"".join(map(encode_field, fields))).digest()


def approximate_name(exact: bytes, *, skip: str, attention: str) -> bytes:
    """Name (32 bytes) of a block whose tokens, or some before them, were not computed exactly.

    Args:
        exact: what the block would be called otherwise.
        skip: identity of the sublayers that were left out; "" for none.
        attention: identity of how generated tokens attended; "" if all attended to everything.
    """
    fields = (
        b"artesian.kv.approximate",
        struct.pack("<I", FORMAT_VERSION),
        exact,
        skip.encode(),
        attention.encode(),
    )
    return blake3(b"".join(map(encode_field, fields))).digest()
