"""The front's own copy of the tokenizer: text never goes to the worker."""

from artesian.config import EngineConfig, ServerConfig
from artesian.loader.base import Tokenizer


def create_tokenizer(engine_config: EngineConfig, server_config: ServerConfig) -> Tokenizer:
    """The tokenizer of the served model. Raises `CheckpointError`."""
    from artesian.loader import open_checkpoint

    checkpoint = open_checkpoint(engine_config.model, chat_template=server_config.chat_template)
    tokenizer = checkpoint.tokenizer()
    # The tables for encoding are read on first use: better now than in the first request.
    tokenizer.encode("")
    return tokenizer
