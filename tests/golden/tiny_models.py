"""Tiny random models of every architecture, as Hugging Face directories.

Their weights come from a frozen random stream, so the repository keeps only the answers that
Transformers gave for them (`tiny.json`, made by `make_goldens.py`).
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

VOCAB_SIZE = 512
NUM_TOKENS = 48

_BASE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**_BASE, "model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    "llama3-rope": {
        **_BASE,
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "tie_word_embeddings": True,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "llama-linear-rope": {
        **_BASE,
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    },
    "mistral": {
        **_BASE,
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "sliding_window": 12,
    },
    "qwen2": {
        **_BASE,
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "tie_word_embeddings": True,
        "hidden_act": "silu",
    },
    "qwen3-yarn": {
        **_BASE,
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "head_dim": 32,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "gemma3": {
        **_BASE,
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "num_hidden_layers": 7,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "rms_norm_eps": 1e-6,
        "query_pre_attn_scalar": 24,
        "sliding_window": 8,
        "sliding_window_pattern": 6,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "tie_word_embeddings": True,
        "hidden_activation": "gelu_pytorch_tanh",
    },
}
BF16 = {"mistral", "gemma3"}
SHARDED = {"mistral"}


def prompt(name: str) -> list[int]:
    """The token ids that the model is asked about."""
    return [int(i) for i in _random(name, "prompt").randint(3, VOCAB_SIZE, NUM_TOKENS)]


def write(name: str, directory: Path) -> Path:
    """Writes config.json and the weights of a model below `directory`; returns its directory."""
    path = directory / name
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(CONFIGS[name]))
    tensors = {
        tensor: _values(name, tensor, shape) for tensor, shape in _shapes(CONFIGS[name]).items()
    }
    names = list(tensors)
    if name not in SHARDED:
        _save(path / "model.safetensors", name, tensors)
        return path
    files: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        _save(path / file, name, {tensor: tensors[tensor] for tensor in part})
        files |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": files}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def _random(name: str, what: str) -> np.random.RandomState:
    # Unlike a Generator's, this stream is promised never to change.
    return np.random.RandomState(zlib.crc32(f"{name}/{what}".encode()))


def _values(name: str, tensor: str, shape: tuple[int, ...]) -> "np.ndarray[Any, Any]":
    values = _random(name, tensor).standard_normal(shape).astype(np.float32)
    if "norm" in tensor:
        centre = 0.0 if name == "gemma3" else 1.0
        return (centre + 0.2 * values).astype(np.float32)
    if tensor.endswith("bias"):
        return values * np.float32(0.5)
    if "embed" in tensor:
        # Gemma multiplies its embeddings by sqrt(hidden): smaller ones leave the layers a say.
        return values * np.float32(0.05 if name == "gemma3" else 0.5)
    return values * np.float32(2.0 / shape[-1] ** 0.5)


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, width = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    kind = config["model_type"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCAB_SIZE, hidden),
        "model.norm.weight": (hidden,),
    }
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (VOCAB_SIZE, hidden)
    for index in range(config["num_hidden_layers"]):
        layer: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (hidden,),
            "post_attention_layernorm.weight": (hidden,),
            "self_attn.q_proj.weight": (queries, hidden),
            "self_attn.k_proj.weight": (keys, hidden),
            "self_attn.v_proj.weight": (keys, hidden),
            "self_attn.o_proj.weight": (hidden, queries),
            "mlp.gate_proj.weight": (width, hidden),
            "mlp.up_proj.weight": (width, hidden),
            "mlp.down_proj.weight": (hidden, width),
        }
        if kind == "qwen2":
            for part, size in (("q", queries), ("k", keys), ("v", keys)):
                layer[f"self_attn.{part}_proj.bias"] = (size,)
        if kind in ("qwen3", "gemma3_text"):
            layer["self_attn.q_norm.weight"] = (config["head_dim"],)
            layer["self_attn.k_norm.weight"] = (config["head_dim"],)
        if kind == "gemma3_text":
            layer["pre_feedforward_layernorm.weight"] = (hidden,)
            layer["post_feedforward_layernorm.weight"] = (hidden,)
        shapes |= {f"model.layers.{index}.{part}": shape for part, shape in layer.items()}
    return shapes


def _save(path: Path, name: str, tensors: "dict[str, np.ndarray[Any, Any]]") -> None:
    """Writes the format by hand: numpy has no bf16 to hand to the library."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for tensor, values in tensors.items():
        if name in BF16:
            data = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        else:
            data = values.tobytes()
        header[tensor] = {
            "dtype": "BF16" if name in BF16 else "F32",
            "shape": list(values.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
