"""`/v1/completions`."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from artesian.api.protocol.base import (
    INT32_MAX,
    MAX_LOGPROBS,
    ApiResponse,
    SamplingFields,
    Text,
    TokenId,
    Usage,
    drop_neutral,
)
from artesian.api.protocol.chat import FinishReason

MAX_PROMPTS = 128

LATER_FIELDS: dict[str, list[Any]] = {
    "suffix": [""],
    "best_of": [1],
    "response_format": [{"type": "text"}],
}

# A long list of the wrong type fails at its first item, not once for each.
TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
Prompts = (
    Text
    | TokenIds
    | Annotated[list[Text], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
    | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
)


class CompletionRequest(SamplingFields):
    """Prompts to go on with: text or token ids, one or several."""

    prompt: Prompts
    max_tokens: int | None = Field(default=16, ge=0, le=INT32_MAX, description="0 only with echo")
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    echo: bool | None = Field(default=None, description="the answer begins with the prompt")
    add_special_tokens: bool | None = Field(
        default=None, description="as the tokenizer does by default"
    )

    @model_validator(mode="before")
    @classmethod
    def _later_features(cls, data: Any) -> Any:
        return drop_neutral(data, LATER_FIELDS)

    def prompts(self) -> list[str | list[int]]:
        """`prompt` in its long form."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [prompt for prompt in self.prompt if not isinstance(prompt, int)]


class CompletionLogprobs(ApiResponse):
    """Parallel lists over the tokens of a choice; the first prompt token has no probability."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(ApiResponse):
    """One answer; the n answers of prompt p are at p * n and behind."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = Field(
        default=None, description="what matched, if something did"
    )


class Completion(ApiResponse):
    """The whole answer, or one event of a stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None
