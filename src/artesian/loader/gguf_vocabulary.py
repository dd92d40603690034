"""The vocabulary in the metadata of a GGUF file, read token by token as it is needed."""

import numpy as np

from artesian.loader.base import CheckpointError
from artesian.loader.gguf_header import GgufHeader

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4


class GgufVocabulary:
    """See `tokenizer.Vocabulary`. Raises `CheckpointError` when tokens and types do not match."""

    def __init__(self, header: GgufHeader) -> None:
        self._path = header.path
        self._header = header
        self._tokens = header.strings("tokenizer.ggml.tokens")
        self.size = len(self._tokens)
        if "tokenizer.ggml.token_type" in header.arrays:
            self._types = self._numbers("token_type")
        else:
            self._types = np.full(self.size, _NORMAL)
        self.control = {self._tokens[i]: i for i in self._of_type(_CONTROL)}

    def token(self, token_id: int) -> str | None:
        """How the vocabulary spells the token; None where there is none."""
        return self._tokens[token_id] if 0 <= token_id < self.size else None

    def is_literal(self, token_id: int) -> bool:
        """Whether the spelling is the text itself (control and user-defined tokens)."""
        return bool(self._types[token_id] in (_CONTROL, _USER_DEFINED))

    def user_defined(self) -> list[str]:
        """Tokens that are found in a text before it is cut into others."""
        return [self._tokens[i] for i in self._of_type(_USER_DEFINED)]

    def ids(self) -> dict[str, int]:
        """Token -> id of all tokens, in order of their ids."""
        tokens = list(self._tokens)
        ids = {token: index for index, token in enumerate(tokens)}
        if len(ids) == len(tokens):
            return ids
        # Ids must stay dense for the library: later duplicates get a name nothing encodes to.
        ids = {}
        for index, token in enumerate(tokens):
            ids[f"\ufffe{index}" if token in ids else token] = index
        return ids

    def scores(self) -> dict[str, float]:
        """Token -> score of the ordinary tokens. Raises `CheckpointError` when there are none."""
        scores = self._numbers("scores").tolist()
        return {self._tokens[i]: scores[i] for i in self._of_type(_NORMAL)}

    def _of_type(self, kind: int) -> list[int]:
        found: list[int] = np.flatnonzero(self._types == kind).tolist()
        return found

    def _numbers(self, what: str) -> "np.ndarray[tuple[int], np.dtype[np.generic]]":
        numbers = self._header.numbers(f"tokenizer.ggml.{what}")
        if len(numbers) != self.size:
            raise CheckpointError(
                f"{self._path}: tokenizer.ggml.{what} has {len(numbers)} entries for "
                f"{self.size} tokens"
            )
        return numbers
