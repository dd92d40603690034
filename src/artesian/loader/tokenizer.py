"""Text to tokens and back, by the `tokenizers` library."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

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


class TextTokenizer:
    """A tokenizer with the chat template of its model.

    Attributes:
        vocab_size: one more than the highest token id.
        eos_token_ids: tokens that end an answer: the model's own and the known ends of a turn.
    """

    def __init__(
        self,
        library: LibraryTokenizer,
        spelling: TokenSpelling,
        special: SpecialTokens,
        chat_template: str | None,
        strip_leading_space: bool = False,
    ) -> None:
        self._library = library
        self._bytes_of: Callable[[str], bytes] = (
            _byte_level_bytes if spelling == "byte_level" else _sentencepiece_bytes
        )
        self._special = special
        self._chat_template = chat_template
        self._strip_leading_space = strip_leading_space
        added = library.get_added_tokens_decoder()
        self._added = {token_id: token.content for token_id, token in added.items()}
        self._hidden = frozenset(token_id for token_id, token in added.items() if token.special)
        self.vocab_size: int = max(
            library.get_vocab_size(with_added_tokens=True), max(self._added, default=-1) + 1
        )
        self.bos_token_id = special.bos
        turn_ends = (library.token_to_id(name) for name in _END_OF_TURN)
        self.eos_token_ids: frozenset[int] = frozenset(special.eos) | frozenset(
            token_id for token_id in turn_ends if token_id is not None and token_id in self._hidden
        )

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
        added = self._added.get(token_id)
        if added is not None:
            return added.encode("utf-8")
        token = self._library.id_to_token(token_id) if token_id >= 0 else None
        return b"" if token is None else self._bytes_of(token)

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
        if token_id is None:
            return ""
        return self._library.id_to_token(token_id) or ""

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
