"""Streaming text equals the text of the whole, for tokenizers of both families."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artesian.engine.detokenizer import Detokenizer
from artesian.loader import Tokenizer, open_checkpoint
from tests.engine.toy import ToyTokenizer

TEXT = "Hello, wörld! 你好 👩‍👩‍👧 naïve — שלום  x\n\n\tcode = 1; 🎉🎉 日本語 "
SPECIAL = 1000


class ByteTokenizer(ToyTokenizer):
    """Tokens 0 to 255 are bytes, 256 and up words behind a space that is lost at the start."""

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        raw = b""
        for token_id in token_ids:
            if token_id == SPECIAL:
                raw += b"" if skip_special_tokens else b"<s>"
            else:
                raw += bytes([token_id]) if token_id < 256 else b" w%d" % token_id
        return raw.removeprefix(b" ").decode("utf-8", "replace")


def stream(tokenizer: Tokenizer, token_ids: Sequence[int], prompt: Sequence[int] = ()) -> list[str]:
    detokenizer = Detokenizer(tokenizer, prompt)
    return [*(detokenizer.feed(token_id) for token_id in token_ids), detokenizer.flush()]


def test_a_character_is_never_broken() -> None:
    pieces = stream(ByteTokenizer(), list("a€🎉b".encode()))
    assert pieces == ["a", "", "", "€", "", "", "", "🎉", "b", ""]


def test_an_open_character_is_shown_as_replacement_at_the_end() -> None:
    assert stream(ByteTokenizer(), [0xF0, 0x9F]) == ["", "", "\ufffd"]


def test_bytes_that_are_no_text_do_not_hold_back_for_ever() -> None:
    pieces = stream(ByteTokenizer(), [0xFF] * 100)
    assert "".join(pieces) == "\ufffd" * 100
    assert any(pieces[:20])


def test_spaces_between_words_survive_and_follow_the_prompt() -> None:
    assert "".join(stream(ByteTokenizer(), [300, 301])) == "w300 w301"
    assert "".join(stream(ByteTokenizer(), [300, 301], prompt=[65])) == " w300 w301"
    assert "".join(stream(ByteTokenizer(), [300, SPECIAL, 301])) == "w300 w301"
    assert "".join(stream(ByteTokenizer(), [300, *[SPECIAL] * 40, 301])).startswith("w300")


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=3).map(lambda text: list(text.encode())),
            st.just([300]),
            st.just([SPECIAL]),
            st.lists(st.integers(0, 255), max_size=3),
        ),
        max_size=12,
    )
)
def test_streamed_text_is_the_text_of_the_whole(parts: list[list[int]]) -> None:
    token_ids = [65, *(token_id for part in parts for token_id in part)]
    assert "".join(stream(ByteTokenizer(), token_ids)) == ByteTokenizer().decode(token_ids)


@pytest.mark.parametrize("model", ["smollm2_path", "gemma3_path"])
def test_real_tokenizers(model: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(model)
    tokenizer = open_checkpoint(path).tokenizer()
    token_ids = tokenizer.encode(TEXT, add_special_tokens=False)
    pieces = stream(tokenizer, token_ids)
    assert "".join(pieces) == tokenizer.decode(token_ids) == TEXT
    assert not any("\ufffd" in piece for piece in pieces)
    scattered = [i * 7919 % tokenizer.vocab_size for i in range(500)]
    assert "".join(stream(tokenizer, scattered)) == tokenizer.decode(scattered)
