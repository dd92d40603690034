"""GGUF files: good ones open, damaged ones are refused with a reason, whatever is wrong."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artesian.loader import CheckpointError, open_checkpoint
from artesian.loader.reference import ReferenceRunner
from tests.golden.running import logits_at
from tests.loader.gguf_files import gguf, llama_metadata, llama_tensors, text, write


def refusal(tmp_path: Path, content: bytes) -> str:
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(write(tmp_path / "m.gguf", content))
    assert str(tmp_path / "m.gguf") in str(error.value)
    return str(error.value)


def test_a_good_file_runs(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(
        write(tmp_path / "m.gguf", gguf(llama_metadata(), llama_tensors()))
    )
    assert checkpoint.name == "m"
    assert checkpoint.config.rope_interleaved
    assert checkpoint.config.num_kv_heads == 2
    logits = logits_at(ReferenceRunner(checkpoint), [2, 3, 4], [2], chunk=3)
    assert logits.shape == (1, 8)
    assert np.isfinite(logits).all()


def test_truncated_anywhere(tmp_path: Path) -> None:
    content = gguf(llama_metadata(), llama_tensors())
    for size in [*range(0, 1200, 37), len(content) // 2, len(content) - 33]:
        assert "m.gguf" in refusal(tmp_path, content[:size])


def test_random_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    content = gguf(llama_metadata(), llama_tensors())
    random = np.random.RandomState(7)
    path = tmp_path / "m.gguf"
    for _ in range(300):
        damaged = bytearray(content)
        start = random.randint(0, 2200)
        length = random.choice([1, 4, 8])
        damaged[start : start + length] = random.bytes(length)
        path.write_bytes(damaged)
        try:
            open_checkpoint(path).tokenizer().encode("ab")
        except CheckpointError as error:
            assert "m.gguf" in str(error)


@pytest.mark.parametrize("huge", [2**60, 2**64 - 1])
@pytest.mark.parametrize("count", ["num_tensors", "num_entries"])
def test_absurd_counts(tmp_path: Path, count: str, huge: int) -> None:
    arguments: dict[str, Any] = {count: huge}
    content = gguf(llama_metadata(), llama_tensors(), **arguments)
    assert str(huge) in refusal(tmp_path, content)


def test_absurd_string_and_array_lengths(tmp_path: Path) -> None:
    start = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    assert str(2**60) in refusal(tmp_path, start + struct.pack("<Q", 2**60) + bytes(64))
    array = text("k") + struct.pack("<IIQ", 9, 8, 2**60)
    assert str(2**60) in refusal(tmp_path, start + array + bytes(64))
    strings = text("k") + struct.pack("<IIQQ", 9, 8, 2, 2**63) + bytes(64)
    assert "header" in refusal(tmp_path, start + strings)


def test_absurd_tensor_sizes(tmp_path: Path) -> None:
    tensors = llama_tensors()
    content = gguf(llama_metadata(), tensors)
    dimensions = struct.pack("<QQ", 64, 8)
    assert content.count(dimensions) == 1
    for huge in (2**60, 2**63):
        damaged = content.replace(dimensions, struct.pack("<QQ", 64, huge))
        assert "token_embd.weight" in refusal(tmp_path, damaged)


@pytest.mark.parametrize(
    ("offsets", "reason"),
    [
        ({"output_norm.weight": 33}, "alignment"),
        ({"output_norm.weight": 0}, "overlaps"),
        ({"output_norm.weight": 2**60}, "ends at byte"),
    ],
)
def test_misplaced_tensors(tmp_path: Path, offsets: dict[str, int], reason: str) -> None:
    assert reason in refusal(tmp_path, gguf(llama_metadata(), llama_tensors(), offsets=offsets))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"magic": b"<htm"}, "GGUF file with b'GGUF'"),
        ({"version": 1}, "version 1"),
        ({"format_id": 16}, "type 16"),
    ],
)
def test_other_formats(tmp_path: Path, arguments: dict[str, Any], reason: str) -> None:
    assert reason in refusal(tmp_path, gguf(llama_metadata(), llama_tensors(), **arguments))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("general.architecture", "mamba", "'mamba'"),
        ("llama.block_count", 3, "layers.2.attn_norm"),
        ("llama.block_count", 0, "number of layers is 0"),
        ("llama.attention.head_count", 0, "number of heads is 0"),
        ("llama.attention.head_count_kv", 3, "cannot share 3"),
        ("llama.feed_forward_length", 128, "(96, 64)"),
        ("llama.context_length", "long", "'long'"),
        ("llama.expert_count", 8, "mixture of experts"),
    ],
)
def test_metadata_that_does_not_fit(tmp_path: Path, key: str, value: Any, reason: str) -> None:
    content = gguf({**llama_metadata(), key: value}, llama_tensors())
    assert reason in refusal(tmp_path, content)


@pytest.mark.parametrize("name", ["output_norm.weight", "blk.1.ffn_down.weight"])
def test_missing_tensors(tmp_path: Path, name: str) -> None:
    tensors = llama_tensors()
    del tensors[name]
    assert "missing" in refusal(tmp_path, gguf(llama_metadata(), tensors))


def test_fingerprint_follows_weights_and_config(tmp_path: Path) -> None:
    content = gguf(llama_metadata(), llama_tensors())

    def fingerprint(data: bytes) -> str:
        return open_checkpoint(write(tmp_path / "f.gguf", data)).fingerprint()

    other_weights = content[:-1] + bytes([content[-1] ^ 1])
    other_config = gguf({**llama_metadata(), "llama.context_length": 64}, llama_tensors())
    prints = {fingerprint(data) for data in (content, other_weights, other_config, content)}
    assert len(prints) == 3


def test_parts_and_missing_files_say_what_to_do(tmp_path: Path) -> None:
    part = write(tmp_path / "m-00001-of-00002.gguf", b"GGUF")
    with pytest.raises(CheckpointError, match="join the parts"):
        open_checkpoint(part)
    with pytest.raises(CheckpointError, match="neither a file"):
        open_checkpoint(tmp_path / "absent.gguf")
    with pytest.raises(CheckpointError, match="empty"):
        open_checkpoint(write(tmp_path / "empty.gguf", b""))
