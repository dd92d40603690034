"""Text to tokens and back, by the `tokenizers` library."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Literal, Protocol

from tokenizers import Tokenizer as LibraryTokenizer

from artesian.loader.chat_template import render

TokenSpelling = Literal["byte_level", "sentencepiece"]

_END_OF_TURN = (
    "<|im_end|>",
    "<end_of_turn>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
)
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class TokenizerOptions:
    """What the user may override. `chat_template` is the text of a template, not a path."""

    chat_template: str | None = None


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The ids around a text. `prefix` and `suffix` are added by encode beside the library's own."""

    bos: int | None = None
    eos: Iterable[int] = ()
    prefix: list[int] = field(default_factory=list)
    suffix: list[int] = field(default_factory=list)


class Vocabulary(Protocol):
    """The tokens themselves: enough to turn ids into text without the library's tables."""

    @property
    def size(self) -> int:
        """One more than the highest token id."""

    @property
    def control(self) -> Mapping[str, int]:
        """Name -> id of the tokens that are not text, such as the end of a turn."""

    def token(self, token_id: int) -> str | None:
        """How the vocabulary spells the token; None where there is none."""

    def is_literal(self, token_id: int) -> bool:
        """Whether the spelling is the text itself (control and user-defined tokens)."""


class TextTokenizer:
    """A tokenizer with the chat template of its model.

    Args:
        vocabulary: the tokens.
        load_library: makes the library's tokenizer when the first text is encoded; a worker, which
            only decodes, is spared the time and memory of a large vocabulary's merges.

    Attributes:
        vocab_size: one more than the highest token id.
        eos_token_ids: tokens that end an answer: the model's own and the known ends of a turn.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        load_library: Callable[[], LibraryTokenizer],
        spelling: TokenSpelling,
        special: SpecialTokens,
        chat_template: str | None,
        strip_leading_space: bool = False,
    ) -> None:
        self._vocabulary = vocabulary
        self._load_library = load_library
        self._bytes_of: Callable[[str], bytes] = (
            _byte_level_bytes if spelling == "byte_level" else _sentencepiece_bytes
        )
        self._special = special
        self._chat_template = chat_template
        self._strip_leading_space = strip_leading_space
        self._hidden = frozenset(vocabulary.control.values())
        self.vocab_size = vocabulary.size
        self.bos_token_id = special.bos
        turn_ends = {vocabulary.control[n] for n in _END_OF_TURN if n in vocabulary.control}
        self.eos_token_ids: frozenset[int] = frozenset(special.eos) | turn_ends

    @cached_property
    def _library(self) -> LibraryTokenizer:
        return self._load_library()

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`; lone surrogates become U+FFFD."""
        if not text.isascii():
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        # The batch call releases the GIL; the call for one text does not.
        encoding = self._library.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0]
        ids: list[int] = encoding.ids
        if add_special_tokens:
            return [*self._special.prefix, *ids, *self._special.suffix]
        return ids

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of `token_ids`; incomplete UTF-8 becomes U+FFFD."""
        hidden = self._hidden if skip_special_tokens else ()
        raw = b"".join(self.token_bytes(token) for token in token_ids if token not in hidden)
        if self._strip_leading_space:
            raw = raw.removeprefix(b" ")
        return raw.decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token; empty for ids that only pad the vocabulary."""
        token = self._vocabulary.token(token_id)
        if token is None:
            return b""
        if self._vocabulary.is_literal(token_id):
            return token.encode("utf-8")
        return self._bytes_of(token)

    def apply_chat_template(
        self,
        messages: Sequence[dict[str, object]],
        add_generation_prompt: bool = True,
        **template_kwargs: object,
    ) -> str:
        """The prompt for a conversation; encode it with add_special_tokens=False.

        Raises `ChatTemplateError` when the model has no template or it rejects the messages.
        """
        tokens = {"bos_token": self._name(self.bos_token_id), "eos_token": self._eos_name()}
        return render(
            self._chat_template, messages, add_generation_prompt, {**tokens, **template_kwargs}
        )

    def _name(self, token_id: int | None) -> str:
        return "" if token_id is None else self._vocabulary.token(token_id) or ""

    def _eos_name(self) -> str:
        return self._name(next(iter(self._special.eos), None))


def _byte_level_bytes(token: str) -> bytes:
    table = _byte_level_table()
    if all(character in table for character in token):
        return bytes(table[character] for character in token)
    return token.encode("utf-8")


def _sentencepiece_bytes(token: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(token)
    if byte is not None:
        return bytes([int(byte[1], 16)])
    return token.replace("\u2581", " ").encode("utf-8")


@cache
def _byte_level_table() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte -> the byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return table | {chr(0x100 + index): byte for index, byte in enumerate(others)}
