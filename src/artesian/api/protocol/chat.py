"""`/v1/chat/completions`."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from artesian.api.protocol.base import (
    INT32_MAX,
    MAX_LOGPROBS,
    ApiRequest,
    ApiResponse,
    CacheControl,
    SamplingFields,
    Text,
    Usage,
    drop_neutral,
    unsupported,
)

MAX_MESSAGES = 4096
FinishReason = Literal["stop", "length"]

# Field -> values that ask for nothing (null never does).
LATER_REQUEST_FIELDS: dict[str, list[Any]] = {
    "tools": [[]],
    "tool_choice": ["none", "auto"],
    "parallel_tool_calls": [True, False],
    "functions": [[]],
    "function_call": ["none", "auto"],
    "response_format": [{"type": "text"}],
    "audio": [],
    "modalities": [["text"]],
    "prediction": [],
    "reasoning_effort": [],
    "verbosity": [],
    "web_search_options": [],
    "continue_final_message": [False],
}
LATER_MESSAGE_FIELDS: dict[str, list[Any]] = {
    "tool_calls": [[]],
    "tool_call_id": [],
    "function_call": [],
    "audio": [],
    "refusal": [],
    "annotations": [[]],
    "reasoning_content": [""],
}
LATER_ROLES = ("tool", "function")
LATER_PARTS = ("image_url", "input_audio", "file", "refusal")


class TextPart(ApiRequest):
    """A piece of a message; only text for now."""

    type: Literal["text"]
    text: Text
    cache_control: CacheControl | None = Field(
        default=None, description="keeps the prompt's KV up to the end of this message"
    )

    @model_validator(mode="before")
    @classmethod
    def _later_features(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("type") in LATER_PARTS:
            raise unsupported("type", f"'{data['type']}' is not supported yet")
        return data


class ChatMessage(ApiRequest):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1)]
    name: str | None = Field(default=None, max_length=256)
    cache_control: CacheControl | None = Field(
        default=None, description="keeps the prompt's KV up to the end of this message"
    )

    @model_validator(mode="before")
    @classmethod
    def _later_features(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("role") in LATER_ROLES:
            raise unsupported("role", f"'{data['role']}' is not supported yet")
        return drop_neutral(data, LATER_MESSAGE_FIELDS)

    def pin_s(self) -> float:
        """How long to keep what ends with this message; 0 for no longer than others."""
        parts = [] if isinstance(self.content, str) else self.content
        marks = [self.cache_control, *(part.cache_control for part in parts)]
        return max((mark.seconds for mark in marks if mark is not None), default=0.0)

    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatCompletionRequest(SamplingFields):
    """A conversation to go on with."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=INT32_MAX)
    max_tokens: int | None = Field(default=None, ge=1, le=INT32_MAX, description="the older name")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    add_generation_prompt: bool | None = Field(
        default=None, description="false: the prompt ends with the last message"
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        default=None, description="variables for the chat template"
    )

    @model_validator(mode="before")
    @classmethod
    def _later_features(cls, data: Any) -> Any:
        return drop_neutral(data, LATER_REQUEST_FIELDS)

    def num_logprobs(self) -> int | None:
        """Alternatives to report per token; None for no log probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


class TopLogprob(ApiResponse):
    """A token, its natural log probability, and its raw bytes."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """The chosen token and what else it might have been."""

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(ApiResponse):
    """Log probabilities of a choice's tokens."""

    content: list[TokenLogprob] | None
    refusal: None = None


class AssistantMessage(ApiResponse):
    """The model's turn."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(ApiResponse):
    """One of the n answers."""

    index: int
    message: AssistantMessage
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason
    stop_reason: str | int | None = Field(
        default=None, description="what matched, if something did"
    )


class ChatCompletion(ApiResponse):
    """The whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    system_fingerprint: str | None = None


class Delta(ApiResponse):
    """What a chunk adds to the model's turn."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(ApiResponse):
    """What a chunk adds to one of the n answers."""

    index: int
    delta: Delta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None


class ChatCompletionChunk(ApiResponse):
    """One event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None
