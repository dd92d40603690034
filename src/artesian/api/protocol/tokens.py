"""`/tokenize` and `/detokenize`, as in vLLM."""

from typing import Any, Self

from pydantic import Field, model_validator

from artesian.api.protocol.base import ApiRequest, ApiResponse, Text, TokenId, unsupported
from artesian.api.protocol.chat import MAX_MESSAGES, ChatMessage


class TokenizeRequest(ApiRequest):
    """A text, or a conversation that the chat template makes one of."""

    model: str | None = Field(default=None, max_length=1024)
    prompt: Text | None = None
    messages: list[ChatMessage] | None = Field(default=None, min_length=1, max_length=MAX_MESSAGES)
    add_special_tokens: bool | None = Field(
        default=None, description="default: true for a prompt, false for messages"
    )
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise unsupported("prompt", "or messages has to be given, and only one of them")
        return self


class TokenizeResponse(ApiResponse):
    """The tokens of a text."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(ApiRequest):
    """Tokens to turn into text."""

    model: str | None = Field(default=None, max_length=1024)
    tokens: list[TokenId] = Field(fail_fast=True)


class DetokenizeResponse(ApiResponse):
    """The text of the tokens."""

    prompt: str
