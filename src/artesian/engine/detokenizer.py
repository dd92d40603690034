"""Text of a token stream, piece by piece, never a broken character.

The text of a token may depend on its neighbours: characters span tokens, and some tokenizers drop a
leading space at the start of what they decode. So each token is decoded together with a few before
it, at constant cost.
"""

from collections.abc import Sequence

from artesian.loader.base import Tokenizer

_REPLACEMENT = "\ufffd"
_CONTEXT_TOKENS = 5  # of the prompt, so that the first output token is decoded in its place
_MAX_HELD_TOKENS = 16  # a character has at most four bytes: what is still open then is not UTF-8


class Detokenizer:
    """Turns one sequence's output tokens into text."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_token_ids: Sequence[int],
        skip_special_tokens: bool = True,
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._window = list(prompt_token_ids[-_CONTEXT_TOKENS:])
        self._num_shown_tokens = len(self._window)  # of the window
        self._num_shown_chars = len(self._decode())

    def feed(self, token_id: int) -> str:
        """Takes the next token; returns the text that is certain now, maybe none."""
        self._window.append(token_id)
        text = self._decode()
        num_certain = len(text.rstrip(_REPLACEMENT)) if text.endswith(_REPLACEMENT) else len(text)
        if num_certain < len(text):
            if len(self._window) - self._num_shown_tokens < _MAX_HELD_TOKENS:
                return self._show(text, num_certain)
            num_certain = len(text)
        new = self._show(text, num_certain)
        self._advance(text)
        return new

    def flush(self) -> str:
        """The text that was held back, when nothing follows; an open character becomes U+FFFD."""
        text = self._decode()
        return self._show(text, len(text))

    def _show(self, text: str, num_certain: int) -> str:
        new = text[self._num_shown_chars : num_certain]
        self._num_shown_chars = max(self._num_shown_chars, num_certain)
        return new

    def _advance(self, text: str) -> None:
        """Moves the window to the tokens just shown, unless they alone would give the next no
        context."""
        rest = self._window[self._num_shown_tokens :]
        rest_text = self._tokenizer.decode(rest, self._skip_special_tokens)
        if rest_text or len(self._window) >= _MAX_HELD_TOKENS:
            self._window = rest
            self._num_shown_chars = len(rest_text)
        else:
            self._num_shown_chars = len(text)
        self._num_shown_tokens = len(self._window)

    def _decode(self) -> str:
        return self._tokenizer.decode(self._window, self._skip_special_tokens)
