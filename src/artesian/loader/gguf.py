"""GGUF files."""

import hashlib
import re
from collections.abc import Iterable
from functools import cached_property
from mmap import MADV_DONTNEED
from pathlib import Path

import numpy as np

from artesian.loader.base import CheckpointError, Tensor, Tokenizer
from artesian.loader.gguf_config import read_config
from artesian.loader.gguf_header import GgufHeader
from artesian.loader.mapping import map_file
from artesian.loader.tokenizer import TokenizerOptions
from artesian.loader.tokenizer_gguf import tokenizer_from_gguf
from artesian.loader.validation import check_config, check_tensors

_SAMPLE_BYTES = 1024

_GLOBAL_NAMES = {
    "token_embd.weight": "embed",
    "output_norm.weight": "norm",
    "output.weight": "head",
}
_LAYER_NAMES = {
    "attn_norm.weight": "attn_norm",
    "attn_q.weight": "q",
    "attn_k.weight": "k",
    "attn_v.weight": "v",
    "attn_output.weight": "o",
    "attn_q.bias": "q_bias",
    "attn_k.bias": "k_bias",
    "attn_v.bias": "v_bias",
    "attn_q_norm.weight": "q_norm",
    "attn_k_norm.weight": "k_norm",
    "post_attention_norm.weight": "post_attn_norm",
    "ffn_norm.weight": "mlp_norm",
    "ffn_gate.weight": "gate",
    "ffn_up.weight": "up",
    "ffn_down.weight": "down",
    "post_ffw_norm.weight": "post_mlp_norm",
}


def canonical_name(gguf_name: str) -> str | None:
    """`blk.3.attn_q.weight` -> `layers.3.q`; None for tensors that no model here reads."""
    match = re.fullmatch(r"blk\.(\d+)\.(.+)", gguf_name)
    if match is None:
        return _GLOBAL_NAMES.get(gguf_name)
    name = _LAYER_NAMES.get(match[2])
    return None if name is None else f"layers.{int(match[1])}.{name}"


class GgufCheckpoint:
    """A memory-mapped GGUF file. Raises `CheckpointError` when it is damaged or not supported."""

    def __init__(self, path: Path, options: TokenizerOptions) -> None:
        self._map = map_file(path)
        self._header = GgufHeader(self._map, path)
        self._options = options
        self.name = path.stem
        self.config = read_config(self._header)
        check_config(self.config, str(path))
        self._tensors = {
            name: info
            for gguf_name, info in self._header.tensors.items()
            if (name := canonical_name(gguf_name)) is not None
        }
        check_tensors(self, str(path))

    def tensor(self, name: str) -> Tensor:
        """The tensor of that canonical name, a view of the map. Raises `KeyError`."""
        info = self._tensors[name]
        data = np.frombuffer(self._map, np.uint8, info.num_bytes, info.offset_bytes)
        return Tensor(name, info.shape, info.format, data)

    def tensor_names(self) -> Iterable[str]:
        """Canonical names present."""
        return self._tensors.keys()

    def tokenizer(self) -> Tokenizer:
        """The tokenizer described by the metadata."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return tokenizer_from_gguf(self._header, self.fingerprint(), self._options)

    def release_pages(self) -> None:
        """See `Checkpoint`."""
        self._map.madvise(MADV_DONTNEED)

    def fingerprint(self) -> str:
        """Digest of the header, the file's size and samples of every tensor."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(len(self._map).to_bytes(8, "little"))
        digest.update(memoryview(self._map)[: self._header.data_start_bytes])
        for info in self._header.tensors.values():
            last = max(0, info.num_bytes - _SAMPLE_BYTES)
            for offset in (0, last // 2, last):
                start = info.offset_bytes + offset
                digest.update(self._map[start : start + min(_SAMPLE_BYTES, info.num_bytes)])
        return digest.hexdigest()


def open_gguf(path: Path, options: TokenizerOptions) -> GgufCheckpoint:
    """Opens a GGUF file; of a split model this is an error that says so."""
    if re.search(r"-\d{5}-of-\d{5}\.gguf$", path.name):
        raise CheckpointError(
            f"{path} is one part of a split GGUF model; join the parts first "
            "(gguf-split --merge) and load the result"
        )
    return GgufCheckpoint(path, options)
