"""What a checkpoint on disk offers, whatever its format."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from artesian.models.base import ModelConfig

TensorFormat = Literal[
    "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k"
]


class CheckpointError(ValueError):
    """A checkpoint cannot be read; the message names the file, what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as it lies in the file: `data` is a uint8 view of the memory map, never a copy.

    `shape` is (rows, columns) for matrices (row = output channel), (n,) for vectors.
    """

    name: str
    shape: tuple[int, ...]
    format: TensorFormat
    data: npt.NDArray[np.uint8]


class Tokenizer(Protocol):
    """Text to token ids and back."""

    vocab_size: int
    bos_token_id: int | None
    eos_token_ids: frozenset[int]

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`."""

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of `token_ids`; incomplete UTF-8 becomes U+FFFD."""

    def token_bytes(self, token_id: int) -> bytes:
        """The raw bytes that one token stands for (for logprobs and byte-exact streaming)."""

    def apply_chat_template(
        self,
        messages: Sequence[dict[str, object]],
        add_generation_prompt: bool = True,
        **template_kwargs: object,
    ) -> str:
        """The model's prompt for a conversation.

        Raises `ChatTemplateError` (a ValueError) when it cannot make one.
        """


class Checkpoint(Protocol):
    """A model on disk: configuration, tensors under canonical names, tokenizer, identity."""

    config: ModelConfig
    name: str

    def tensor(self, name: str) -> Tensor:
        """The tensor of that canonical name (see `ops.base.WeightSource`). Raises `KeyError`."""

    def tensor_names(self) -> Iterable[str]:
        """Canonical names present."""

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that belongs to the model."""

    def release_pages(self) -> None:
        """Gives back the memory of what was read from the file; it is read again when touched."""

    def fingerprint(self) -> str:
        """Hex digest that changes when weights or config do (file identity, not a full read)."""
