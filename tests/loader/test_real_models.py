"""The two demo models: what a mistake in reading them would change first."""

from pathlib import Path

import numpy as np
import pytest

from artesian.engine.batch import Batch
from artesian.loader import Checkpoint, open_checkpoint
from artesian.loader.reference import ReferenceRunner


@pytest.fixture(scope="module")
def smollm2(smollm2_path: Path) -> Checkpoint:
    return open_checkpoint(smollm2_path)


def next_token(checkpoint: Checkpoint, text: str) -> str:
    tokenizer = checkpoint.tokenizer()
    ids = np.asarray(tokenizer.encode(text), np.int32)
    count = np.asarray([len(ids)], np.int32)
    batch = Batch(
        tokens=ids,
        positions=np.arange(len(ids), dtype=np.int32),
        row_starts=np.asarray([0, len(ids)], np.int32),
        context_lens=count,
        block_tables=np.arange(8, dtype=np.int32)[None],
        logit_rows=count - 1,
    )
    logits = ReferenceRunner(checkpoint, num_blocks=8).forward(batch)
    return tokenizer.decode([int(logits[0].argmax())])


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


def test_knows_the_capital_of_france(smollm2: Checkpoint) -> None:
    assert next_token(smollm2, "The capital of France is") == " Paris"


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
