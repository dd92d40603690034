"""What answers, wherever the model runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from artesian.engine.base import SamplingParams

Message = dict[str, Any]
"""`{"role": ..., "content": ...}`."""


class AnswerError(RuntimeError):
    """There is no answer; the message says why, `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Delta:
    """Some more text, with the counts so far (0 while unknown)."""

    text: str = ""
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    finish_reason: str | None = None


class Answerer(Protocol):
    """Streams answers; closing the iterator early cancels the rest."""

    name: str

    def chat(self, messages: Sequence[Message], sampling: SamplingParams) -> Iterator[Delta]:
        """Answers a conversation. Raises `AnswerError`."""

    def complete(self, prompt: str, sampling: SamplingParams) -> Iterator[Delta]:
        """Goes on with a text, without a chat template. Raises `AnswerError`."""

    def close(self) -> None:
        """Frees the model or the connection."""
