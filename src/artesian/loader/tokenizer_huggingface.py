"""Reads the tokenizer of a Hugging Face directory."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from artesian.loader.base import CheckpointError
from artesian.loader.tokenizer import (
    SpecialTokens,
    TextTokenizer,
    TokenizerOptions,
    TokenSpelling,
)

_MAX_TOKENIZER_BYTES = 1 << 28


def tokenizer_from_directory(
    path: Path, eos: list[int], options: TokenizerOptions
) -> TextTokenizer:
    """The tokenizer of `path`/tokenizer.json with its chat template. Raises `CheckpointError`."""
    file = path / "tokenizer.json"
    try:
        if file.stat().st_size > _MAX_TOKENIZER_BYTES:
            raise CheckpointError(f"{file} is larger than 256 MiB")
        library = Tokenizer.from_file(str(file))
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # the library has no narrower type
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{file} is damaged: {error}") from error
    library.no_padding()
    library.no_truncation()
    config = _json_or_empty(path / "tokenizer_config.json")
    bos, eos_name = _token(config.get("bos_token")), _token(config.get("eos_token"))
    named_eos = library.token_to_id(eos_name) if eos_name else None
    ends = [*([] if named_eos is None else [named_eos]), *eos]
    decoder = str(library.decoder.__getstate__()) if library.decoder else ""
    spelling: TokenSpelling = "byte_level" if "ByteLevel" in decoder else "sentencepiece"
    return TextTokenizer(
        LibraryVocabulary(library),
        lambda: library,
        spelling,
        SpecialTokens(library.token_to_id(bos) if bos else None, ends),
        options.chat_template or _chat_template(path, config),
        strip_leading_space="Strip" in decoder or '"prepend_scheme":"first"' in decoder,
    )


class LibraryVocabulary:
    """The vocabulary that the library read from tokenizer.json."""

    def __init__(self, library: Tokenizer) -> None:
        self._library = library
        added = library.get_added_tokens_decoder()
        self._added = frozenset(added)
        self.control = {token.content: index for index, token in added.items() if token.special}
        self.size: int = max(
            library.get_vocab_size(with_added_tokens=True), max(added, default=-1) + 1
        )

    def token(self, token_id: int) -> str | None:
        """How the vocabulary spells the token; None where there is none."""
        return self._library.id_to_token(token_id) if token_id >= 0 else None

    def is_literal(self, token_id: int) -> bool:
        """Whether it was added to the model's own vocabulary, as it is written."""
        return token_id in self._added


def eos_token_ids(config: dict[str, Any]) -> list[int]:
    """`eos_token_id` of a config, which may be absent, one id or several."""
    value = config.get("eos_token_id")
    ids = value if isinstance(value, list) else [value]
    return [token for token in ids if isinstance(token, int) and not isinstance(token, bool)]


def _chat_template(path: Path, config: dict[str, Any]) -> str | None:
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text("utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _token(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _json_or_empty(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return value if isinstance(value, dict) else {}
