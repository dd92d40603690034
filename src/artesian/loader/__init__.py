"""Reads checkpoints: GGUF files, Hugging Face directories and hub ids."""

from artesian.loader.base import Checkpoint, CheckpointError, Tensor, Tokenizer
from artesian.loader.chat_template import ChatTemplateError
from artesian.loader.open import open_checkpoint

__all__ = [
    "ChatTemplateError",
    "Checkpoint",
    "CheckpointError",
    "Tensor",
    "Tokenizer",
    "open_checkpoint",
]
