"""Hugging Face directories: config.json, safetensors files, tokenizer.json."""

import hashlib
import json
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from artesian.loader.base import CheckpointError, Tensor, Tokenizer
from artesian.loader.dequantize import to_float32
from artesian.loader.huggingface_config import read_config
from artesian.loader.safetensors_header import SafetensorsFile
from artesian.loader.tokenizer import TokenizerOptions
from artesian.loader.tokenizer_huggingface import eos_token_ids, tokenizer_from_directory
from artesian.loader.validation import check_config, check_tensors

_SAMPLE_BYTES = 1024
_MAX_JSON_BYTES = 1 << 26

_GLOBAL_NAMES = {
    "embed_tokens.weight": "embed",
    "norm.weight": "norm",
    "lm_head.weight": "head",
}
_LAYER_NAMES = {
    "input_layernorm.weight": "attn_norm",
    "self_attn.q_proj.weight": "q",
    "self_attn.k_proj.weight": "k",
    "self_attn.v_proj.weight": "v",
    "self_attn.o_proj.weight": "o",
    "self_attn.q_proj.bias": "q_bias",
    "self_attn.k_proj.bias": "k_bias",
    "self_attn.v_proj.bias": "v_bias",
    "self_attn.q_norm.weight": "q_norm",
    "self_attn.k_norm.weight": "k_norm",
    "post_attention_layernorm.weight": "mlp_norm",
    "mlp.gate_proj.weight": "gate",
    "mlp.up_proj.weight": "up",
    "mlp.down_proj.weight": "down",
}
_GEMMA_LAYER_NAMES = _LAYER_NAMES | {
    "post_attention_layernorm.weight": "post_attn_norm",
    "pre_feedforward_layernorm.weight": "mlp_norm",
    "post_feedforward_layernorm.weight": "post_mlp_norm",
}
_PREFIX = re.compile(
    r"^(?:model\.language_model\.|language_model\.model\.|language_model\.|model\.)"
)


def canonical_name(stored_name: str, architecture: str) -> str | None:
    """`model.layers.3.self_attn.q_proj.weight` -> `layers.3.q`; None for what no model reads."""
    bare = _PREFIX.sub("", stored_name)
    match = re.fullmatch(r"layers\.(\d+)\.(.+)", bare)
    if match is None:
        return _GLOBAL_NAMES.get(bare)
    names = _GEMMA_LAYER_NAMES if architecture == "gemma3" else _LAYER_NAMES
    name = names.get(match[2])
    if name is None and match[2].endswith("_proj.bias"):
        raise CheckpointError(f"the bias {stored_name!r} is not supported for {architecture}")
    return None if name is None else f"layers.{int(match[1])}.{name}"


class HuggingFaceCheckpoint:
    """A directory of mapped safetensors. Raises `CheckpointError` when it cannot be used."""

    def __init__(self, path: Path, options: TokenizerOptions) -> None:
        self._path = path
        self._options = options
        self._raw_config = read_json(path / "config.json")
        self.name = path.name or path.resolve().name
        # The shards may hold a head even when the config ties it: then it is a copy of embed.
        self.config = read_config(self._raw_config, path / "config.json")
        check_config(self.config, str(path))
        self._files = [SafetensorsFile(file) for file in _weight_files(path)]
        self._places: dict[str, tuple[SafetensorsFile, str]] = {}
        for file in self._files:
            for stored_name in file.tensors:
                name = canonical_name(stored_name, self.config.architecture)
                if name is not None and not (name == "head" and self.config.tie_embeddings):
                    self._places[name] = (file, stored_name)
        check_tensors(self, str(path))

    def tensor(self, name: str) -> Tensor:
        """The tensor of that canonical name, a view of its file. Raises `KeyError`.

        Gemma's norm weights are small float32 copies with the 1 of `1 + w` added.
        """
        file, stored_name = self._places[name]
        tensor = file.tensor(stored_name, name)
        if self.config.architecture == "gemma3" and name.endswith("norm"):
            folded = to_float32(tensor) + np.float32(1)
            return Tensor(name, tensor.shape, "f32", folded.view(np.uint8))
        return tensor

    def tensor_names(self) -> Iterable[str]:
        """Canonical names present."""
        return self._places.keys()

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of tokenizer.json."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        generation = self._path / "generation_config.json"
        extra = read_json(generation) if generation.is_file() else {}
        ends = [*eos_token_ids(self._raw_config), *eos_token_ids(extra)]
        return tokenizer_from_directory(self._path, ends, self._options)

    def release_pages(self) -> None:
        """See `Checkpoint`."""
        for file in self._files:
            file.release_pages()

    def fingerprint(self) -> str:
        """Digest of the config, the headers and samples of every tensor."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps(self._raw_config, sort_keys=True).encode())
        for file in self._files:
            digest.update(file.header)
            for stored_name in file.tensors:
                digest.update(file.sample(stored_name, _SAMPLE_BYTES))
        return digest.hexdigest()


def open_directory(path: Path, options: TokenizerOptions) -> HuggingFaceCheckpoint:
    """Opens a Hugging Face directory; other directories are an error that says so."""
    if not (path / "config.json").is_file():
        files = sorted(file.name for file in path.glob("*.gguf"))
        hint = f"; give the GGUF file itself: {path / files[0]}" if files else ""
        raise CheckpointError(f"{path} has no config.json, so it is not a model directory{hint}")
    return HuggingFaceCheckpoint(path, options)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of at most 64 MiB. Raises `CheckpointError`."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise CheckpointError(f"{path} is larger than 64 MiB")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}, expected an object")
    return value


def _weight_files(path: Path) -> list[Path]:
    index = path / "model.safetensors.index.json"
    if not index.is_file():
        single = path / "model.safetensors"
        if single.is_file():
            return [single]
        raise CheckpointError(
            f"{path} has neither model.safetensors nor its index; "
            "weights in other formats (.bin, .pth) are not read: take the safetensors version"
        )
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index} has no weight_map")
    names = {str(name) for name in weight_map.values()}
    if bad := [name for name in names if Path(name).name != name]:
        raise CheckpointError(f"{index} names a file outside its directory: {bad[0]!r}")
    return [path / name for name in sorted(names)]
