"""Hugging Face directories: sharded, tied, damaged, and what config.json may say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from artesian.loader import Checkpoint, CheckpointError, open_checkpoint
from artesian.loader.dequantize import to_float32
from artesian.loader.huggingface_config import read_config
from tests.golden import tiny_models


def tiny(tmp_path: Path, name: str = "llama") -> Path:
    return tiny_models.write(name, tmp_path)


def change_config(path: Path, **changes: Any) -> Path:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **changes}))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(path)
    assert str(path) in str(error.value)
    return str(error.value)


def test_sharded_bf16_tensors_are_views(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny(tmp_path, "mistral"))
    tensor = checkpoint.tensor("layers.2.down")
    assert (tensor.format, tensor.shape) == ("bf16", (64, 96))
    assert not tensor.data.flags.owndata
    assert checkpoint.config.layer_windows == (12, 12, 12)
    assert checkpoint.name == "mistral"


def test_gemma_norms_have_their_one(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny(tmp_path, "gemma3"))
    for name in ("norm", "layers.0.q_norm", "layers.6.post_mlp_norm"):
        assert abs(to_float32(checkpoint.tensor(name)).mean() - 1) < 0.2
    assert abs(to_float32(checkpoint.tensor("layers.0.q")).mean()) < 0.2


def test_tied_head_in_the_file_is_left_out(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    assert "head" in set(open_checkpoint(path).tensor_names())
    assert "head" not in set(
        open_checkpoint(change_config(path, tie_word_embeddings=True)).tensor_names()
    )


def test_text_model_inside_a_vision_model(tmp_path: Path) -> None:
    path = tiny(tmp_path, "gemma3")
    text = tiny_models.CONFIGS["gemma3"]
    outer = {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 8}}
    (path / "config.json").write_text(json.dumps(outer))
    checkpoint: Checkpoint = open_checkpoint(path)
    assert checkpoint.config.num_layers == 7
    assert checkpoint.config.head_dim == 32


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ((2**60).to_bytes(8, "little") + b"{}", str(2**60)),
        ((2**64 - 1).to_bytes(8, "little") + b"{}", "damaged"),
        (b"\x02\0\0", "damaged"),
        ((2).to_bytes(8, "little") + b"[]", "damaged"),
        ((9).to_bytes(8, "little") + b"not json!", "damaged"),
        (b"", "empty"),
    ],
)
def test_damaged_header(tmp_path: Path, header: bytes, reason: str) -> None:
    path = tiny(tmp_path)
    (path / "model.safetensors").write_bytes(header)
    assert reason in refusal(path)


def test_truncated_anywhere(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    content = (path / "model.safetensors").read_bytes()
    for size in [1, 7, 8, 100, 2000, len(content) // 2, len(content) - 1]:
        (path / "model.safetensors").write_bytes(content[:size])
        assert "model.safetensors" in refusal(path)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"dtype": "F32", "shape": [2**60], "data_offsets": [0, 4]}, "damaged"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, 2**60]}, "damaged"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}, "damaged"),
        ({"dtype": "F32", "shape": [1]}, "damaged"),
    ],
)
def test_absurd_tensors(tmp_path: Path, entry: dict[str, Any], reason: str) -> None:
    path = tiny(tmp_path)
    header = json.dumps({"model.embed_tokens.weight": entry}).encode()
    (path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert reason in refusal(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "mamba"}, "'mamba'"),
        ({"num_hidden_layers": 4}, "layers.3.attn_norm"),
        ({"num_hidden_layers": 2**40}, str(2**40)),
        ({"num_attention_heads": 0}, "number of heads is 0"),
        ({"hidden_size": "64"}, "'64'"),
        ({"hidden_size": 128}, "(512, 64)"),
        ({"hidden_act": "relu"}, "'relu'"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0.0}}, "at least 1"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised safetensors"),
        ({"rms_norm_eps": -1.0}, "norm epsilon"),
    ],
)
def test_configs_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    assert reason in refusal(change_config(tiny(tmp_path), **changes))


def test_index_must_stay_in_its_directory(tmp_path: Path) -> None:
    path = tiny(tmp_path, "mistral")
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "../other.safetensors"}}))
    assert "outside its directory" in refusal(path)


def test_directories_that_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "weights.gguf").write_bytes(b"GGUF")
    assert "weights.gguf" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    assert "expected an object" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "cannot be read" in refusal(tmp_path)


def test_missing_weights_say_what_is_read(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    (path / "model.safetensors").unlink()
    assert "take the safetensors version" in refusal(path)


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"sliding_window": 8}, ()),
        ({"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1}, (None, 8, 8)),
        (
            {
                "sliding_window": 8,
                "use_sliding_window": True,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            },
            (8, None, 8),
        ),
    ],
)
def test_windows_of_qwen2(changes: dict[str, Any], windows: tuple[int | None, ...]) -> None:
    config = {**tiny_models.CONFIGS["qwen2"], **changes}
    assert read_config(config, Path("config.json")).layer_windows == windows


def test_rope_of_gemma3_in_the_newer_form() -> None:
    config = {
        **tiny_models.CONFIGS["gemma3"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
        },
    }
    read = read_config(config, Path("config.json"))
    assert (read.rope_theta, read.rope_theta_local) == (5e5, 2e4)
    assert (read.rope_scaling.kind, read.rope_scaling.factor) == ("linear", 8.0)


def write_tokenizer(path: Path, **config: Any) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, "</s>": 1, **{c: i + 2 for i, c in enumerate(alphabet)}}
    library = Tokenizer(models.BPE(vocabulary, []))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken("<s>"), AddedToken("</s>"), AddedToken("<|im_end|>")])
    library.enable_truncation(4)
    library.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps(config))


def test_tokenizer_json(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    write_tokenizer(
        path,
        bos_token={"content": "<s>"},
        eos_token="</s>",
        chat_template=[{"name": "default", "template": "{{ bos_token }}{{ messages[0].content }}"}],
    )
    (path / "generation_config.json").write_text('{"eos_token_id": [1, 100]}')
    tokenizer = open_checkpoint(path).tokenizer()
    text = "naïve 日本 <|im_end|>"
    ids = tokenizer.encode(text)
    assert len(ids) > 4
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.decode(ids) == "naïve 日本 "
    assert tokenizer.bos_token_id == 0
    assert tokenizer.eos_token_ids == {1, 2, 100, ids[-1]}
    assert tokenizer.apply_chat_template([{"content": "hi"}]) == "<s>hi"


def test_damaged_tokenizer(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    for content in (None, "", "{}", '{"model": 3}'):
        if content is not None:
            (path / "tokenizer.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
            open_checkpoint(path).tokenizer()


def test_fingerprint_follows_weights_and_config(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    prints = {open_checkpoint(path).fingerprint(), open_checkpoint(path).fingerprint()}
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "model.safetensors").write_bytes(content)
    prints.add(open_checkpoint(path).fingerprint())
    prints.add(open_checkpoint(change_config(path, rope_theta=20000.0)).fingerprint())
    assert len(prints) == 3
    assert np.isfinite(to_float32(open_checkpoint(path).tensor("embed"))).all()
