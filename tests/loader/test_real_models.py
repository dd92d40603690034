"""The two demo models: what a mistake in reading them would change first."""

from pathlib import Path

import pytest

from artesian.loader import Checkpoint, open_checkpoint


@pytest.fixture(scope="module")
def smollm2(smollm2_path: Path) -> Checkpoint:
    return open_checkpoint(smollm2_path)


def test_config(smollm2: Checkpoint) -> None:
    config = smollm2.config
    assert (config.architecture, config.num_layers, config.num_heads) == ("llama", 30, 9)
    assert config.rope_interleaved
    assert config.tie_embeddings
    assert smollm2.tensor("embed").format == "q8_0"
    assert smollm2.tensor("layers.29.down").shape == (576, 1536)


def test_tensors_are_views_of_the_file(smollm2: Checkpoint) -> None:
    data = smollm2.tensor("embed").data
    assert not data.flags.owndata
    assert not data.flags.writeable


def test_chat_template(smollm2: Checkpoint) -> None:
    prompt = smollm2.tokenizer().apply_chat_template([{"role": "user", "content": "Hi"}])
    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_tokens_round_trip(smollm2: Checkpoint) -> None:
    tokenizer = smollm2.tokenizer()
    text = "Hello,  world 12345 naïve 日本語 🙂\n\n\tdef f(x):  return x<|im_end|>"
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert ids[-1] in tokenizer.eos_token_ids


def test_decoding_leaves_the_tables_for_encoding_alone(
    gemma3_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTESIAN_CACHE_DIR", str(tmp_path))
    tokenizer = open_checkpoint(gemma3_path).tokenizer()
    assert tokenizer.decode([2, 9259, 236764, 138, 12392]) == "Hello,  world"
    assert tokenizer.vocab_size == 262_144
    assert not list(tmp_path.iterdir())


def test_gemma_tokens(gemma3_path: Path) -> None:
    tokenizer = open_checkpoint(gemma3_path).tokenizer()
    text = "Hello,  world\n\n\n///// aaaaaaaaaaa === 日本語 👩‍👩‍👧‍👦 \x00<b>"
    ids = tokenizer.encode(text)
    assert ids[:5] == [2, 9259, 236764, 138, 12392]
    assert b"".join(map(tokenizer.token_bytes, ids[1:])) == text.encode()
    assert tokenizer.encode("/// =========== aaaaaaa", add_special_tokens=False) == [
        14384,
        163438,
        496,
        50354,
        9236,
    ]
