"""Tokenizers built from GGUF metadata."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from artesian.loader import ChatTemplateError, CheckpointError, Tokenizer, open_checkpoint
from tests.loader.gguf_files import gguf, llama_metadata, llama_tensors, write


def tokenizer_of(tmp_path: Path, changes: dict[str, Any], **options: Any) -> Tokenizer:
    metadata = {**llama_metadata(), **changes}
    path = write(tmp_path / "m.gguf", gguf(metadata, llama_tensors()))
    return open_checkpoint(path, **options).tokenizer()


SENTENCEPIECE = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": ["<s>", "</s>", "<0xE2>", "<0x82>", "<0xAC>", "▁a", "b", "▁"],
    "tokenizer.ggml.scores": [0.0, 0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0],
    "tokenizer.ggml.token_type": [3, 3, 6, 6, 6, 1, 1, 1],
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARTESIAN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_byte_level_merges_and_special_tokens(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, {})
    assert tokenizer.encode("ab ab</s>") == [4, 6, 1]
    assert tokenizer.decode([0, 4, 6, 1]) == "ab ab"
    assert tokenizer.decode([0, 4, 6, 1], skip_special_tokens=False) == "<s>ab ab</s>"
    assert tokenizer.token_bytes(6) == b" ab"
    assert tokenizer.bos_token_id == 0
    assert tokenizer.eos_token_ids == {1}


def test_bos_is_added_where_the_file_says_so(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, {"tokenizer.ggml.add_bos_token": True})
    assert tokenizer.encode("ab") == [0, 4]
    assert tokenizer.encode("ab", add_special_tokens=False) == [4]


def test_ids_beyond_the_vocabulary_stand_for_nothing(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, {})
    assert tokenizer.token_bytes(10_000) == b""
    assert tokenizer.token_bytes(-1) == b""


def test_lone_surrogates_do_not_fail(tmp_path: Path) -> None:
    assert tokenizer_of(tmp_path, {}).encode("ab\ud800")[0] == 4


def test_bytes_of_a_character_split_over_tokens(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, SENTENCEPIECE | {"tokenizer.ggml.add_bos_token": False})
    ids = tokenizer.encode("€")
    assert ids == [7, 2, 3, 4]
    assert tokenizer.decode(ids) == "€"
    assert tokenizer.decode(ids[:3]) == "\ufffd"
    assert tokenizer.token_bytes(2) == b"\xe2"


@pytest.mark.parametrize(("prefix", "ids"), [(True, [0, 7, 6, 7, 6]), (False, [0, 6, 7, 6])])
def test_space_before_the_text(tmp_path: Path, prefix: bool, ids: list[int]) -> None:
    changes = SENTENCEPIECE | {"tokenizer.ggml.add_space_prefix": prefix}
    tokenizer = tokenizer_of(tmp_path, changes)
    assert tokenizer.encode("b b") == ids
    assert tokenizer.decode(ids) == "b b"


def test_damaged_cache_is_built_anew(tmp_path: Path, own_cache: Path) -> None:
    first = tokenizer_of(tmp_path, SENTENCEPIECE).encode("b b")
    (cached,) = (own_cache / "tokenizers").iterdir()
    cached.write_text('{"cut off')
    assert tokenizer_of(tmp_path, SENTENCEPIECE).encode("b b") == first


def test_unwritable_cache_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ARTESIAN_CACHE_DIR", str(tmp_path / "file"))
    assert tokenizer_of(tmp_path, SENTENCEPIECE).encode("b")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tokenizer.ggml.model": "bert"}, "'bert'"),
        ({"tokenizer.ggml.pre": "unheard-of"}, "'unheard-of'"),
        ({"tokenizer.ggml.merges": ["a x"]}, "'a x'"),
        ({"tokenizer.ggml.token_type": [1]}, "has 1 entries for 8 tokens"),
        ({"tokenizer.ggml.tokens": [1, 2]}, "array of strings"),
    ],
)
def test_unusable_vocabularies(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        tokenizer_of(tmp_path, changes).encode("a")


class TestChatTemplate:
    MESSAGES: Sequence[dict[str, object]] = ({"role": "user", "content": "hi"},)

    def test_renders_as_transformers_does(self, tmp_path: Path) -> None:
        template = (
            "{{ bos_token }}{% for m in messages %}\n    {% if m.role == 'skip' %}\n"
            "{% continue %}{% endif %}[{{ m['content'] | tojson }}]{% endfor %}"
            "{% if add_generation_prompt %}>{{ mood }}{% endif %}{{ eos_token }}"
        )
        tokenizer = tokenizer_of(tmp_path, {"tokenizer.chat_template": template})
        messages: list[dict[str, object]] = [
            {"role": "skip", "content": "x"},
            {"role": "user", "content": "<é>"},
        ]
        assert tokenizer.apply_chat_template(messages, mood="ok") == '<s>["<é>"]>ok</s>'
        assert tokenizer.apply_chat_template(messages, False) == '<s>["<é>"]</s>'

    def test_override(self, tmp_path: Path) -> None:
        own = {"tokenizer.chat_template": "model's"}
        assert (
            tokenizer_of(tmp_path, own, chat_template="{{ 'mine' }}").apply_chat_template([])
            == "mine"
        )
        file = tmp_path / "t.jinja"
        file.write_text("from a file")
        assert (
            tokenizer_of(tmp_path, own, chat_template=str(file)).apply_chat_template([])
            == "from a file"
        )
        with pytest.raises(CheckpointError, match=r"absent\.jinja"):
            tokenizer_of(tmp_path, own, chat_template="absent.jinja")

    def test_none(self, tmp_path: Path) -> None:
        with pytest.raises(ChatTemplateError, match="--chat-template"):
            tokenizer_of(tmp_path, {}).apply_chat_template(self.MESSAGES)

    @pytest.mark.parametrize(
        ("template", "reason"),
        [
            ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
            ("{{ messages[0]['content'] + 1 }}", "cannot render"),
            ("{% if %}", "cannot render"),
            ("{{ ''.__class__.__mro__ }}", "cannot render"),
            ("{{ messages.append(1) }}", "cannot render"),
            ("{% for i in range(10**9) %}x{% endfor %}", "cannot render"),
            (
                "{% for i in range(99999) %}{% for j in range(99999) %}{{ 'x' * 999 }}"
                "{% endfor %}{% endfor %}",
                "longer than",
            ),
        ],
    )
    def test_failures(self, tmp_path: Path, template: str, reason: str) -> None:
        tokenizer = tokenizer_of(tmp_path, {}, chat_template=template)
        with pytest.raises(ChatTemplateError, match=reason):
            tokenizer.apply_chat_template(self.MESSAGES)
