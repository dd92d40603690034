"""A checkpoint as it would be without quantisation of what is stored."""

from collections.abc import Iterable

import numpy as np

from artesian.loader.base import Checkpoint, Tensor, Tokenizer
from artesian.loader.dequantize import to_float32


class FloatCheckpoint:
    """Another checkpoint with its tensors as float32: kernels then compute in float32, too.

    What a quantised file lost when it was made stays lost; this is the base to compare integer
    arithmetic with, not the original model.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self.config = checkpoint.config
        self.name = f"{checkpoint.name}-f32"

    def tensor(self, name: str) -> Tensor:
        """The tensor of that canonical name, dequantised anew at each call. Raises `KeyError`."""
        tensor = self._checkpoint.tensor(name)
        values = np.ascontiguousarray(to_float32(tensor))
        return Tensor(name, tensor.shape, "f32", values.reshape(-1).view(np.uint8))

    def tensor_names(self) -> Iterable[str]:
        """Canonical names present."""
        return self._checkpoint.tensor_names()

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that belongs to the model."""
        return self._checkpoint.tokenizer()

    def release_pages(self) -> None:
        """See `Checkpoint`."""
        self._checkpoint.release_pages()

    def fingerprint(self) -> str:
        """The checkpoint's own, marked: its numbers differ."""
        return f"{self._checkpoint.fingerprint()}-f32"
