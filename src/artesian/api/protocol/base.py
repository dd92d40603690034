"""Rules for all messages, and the fields that chat and plain completions share."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from artesian.attention import Selector, SparseAttention
from artesian.config.engine import ContextOverflow

MAX_CHOICES = 128
MAX_STOP_STRINGS = 64
MAX_STOP_CHARS = 1024
MAX_LOGPROBS = 20
MAX_LOGIT_BIASES = 1024
INT32_MAX = 2**31 - 1
MAX_SESSION_ID_CHARS = 256
MAX_PIN_S = 30 * 86400.0
DEFAULT_PIN_S = 3600.0
INT64_MAX = 2**63 - 1

# The limit is beyond any body; with it, pydantic looks at every character and so refuses half of a
# surrogate pair, which no tokenizer takes.
Text = Annotated[str, Field(max_length=1 << 30)]
TokenId = Annotated[int, Field(ge=0, le=INT32_MAX)]
StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]


class ApiRequest(BaseModel):
    """A request body: types are not converted, unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class ApiResponse(BaseModel):
    """A response body, or a part of one."""

    model_config = ConfigDict(extra="forbid")


class StreamOptions(ApiRequest):
    """What a stream reports beside the text."""

    include_usage: bool | None = Field(
        default=None, description="a last chunk of its own for the usage"
    )
    include_obfuscation: bool | None = Field(
        default=None, description="accepted; nothing is padded here"
    )


class CacheControl(ApiRequest):
    """What is behind this may change, what is before it is worth keeping."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = Field(default=None, description="default: 5m")

    @property
    def seconds(self) -> float:
        """How long to keep it."""
        return 3600.0 if self.ttl == "1h" else 300.0


class AttentionFields(ApiRequest):
    """What generated tokens attend to; what is left out is as the server was started."""

    selector: Selector
    epsilon: float | None = Field(
        default=None, gt=0, le=1, description="part of the attention weight that is enough"
    )
    budget_tokens: int | None = Field(
        default=None, ge=0, le=INT32_MAX, description="most tokens that one attends to; 0: all"
    )
    dense_layers: int | None = Field(
        default=None, ge=0, le=INT32_MAX, description="first layers that attend to everything"
    )
    min_context_tokens: int | None = Field(
        default=None, ge=0, le=INT32_MAX, description="behind fewer everything is attended to"
    )


class SamplingFields(ApiRequest):
    """How completions are chosen; OpenAI's names, then vLLM's."""

    model: str | None = Field(default=None, max_length=1024)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    temperature: float | None = Field(default=None, ge=0, le=100)
    top_p: float | None = Field(default=None, gt=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: (
        dict[
            Annotated[str, Field(pattern=r"^[0-9]{1,9}$")],
            Annotated[float, Field(ge=-100, le=100)],
        ]
        | None
    ) = Field(default=None, max_length=MAX_LOGIT_BIASES)
    seed: int | None = Field(default=None, ge=-INT64_MAX - 1, le=INT64_MAX)
    stop: StopString | Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS)] | None = None

    top_k: int | None = Field(default=None, ge=-1, le=INT32_MAX, description="0 or -1 keeps all")
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=100)
    stop_token_ids: list[TokenId] | None = Field(default=None, max_length=MAX_STOP_STRINGS)
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    min_tokens: int | None = Field(default=None, ge=0, le=INT32_MAX)
    skip_special_tokens: bool | None = None
    priority: int | None = Field(
        default=None, ge=-INT32_MAX, le=INT32_MAX, description="lower runs first"
    )
    cache_salt: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="shares cached blocks only with its equals",
    )
    session_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_SESSION_ID_CHARS,
        description="conversation that this belongs to: see /v1/sessions",
    )
    pin: bool | Annotated[float, Field(gt=0, le=MAX_PIN_S)] | None = Field(
        default=None,
        description="keeps the prompt's KV in the context cache: true for an hour, or seconds",
    )
    cache_control: CacheControl | None = Field(
        default=None, description="keeps the prompt's KV in the context cache, in Anthropic's words"
    )
    context_overflow: ContextOverflow | None = Field(
        default=None, description="what outgrows the context: error or truncate, as the server may"
    )
    attention: Selector | AttentionFields | None = Field(
        default=None, description="what generated tokens attend to: dense, progressive, ..."
    )
    num_skipped: int | None = Field(
        default=None,
        ge=0,
        le=INT32_MAX,
        description="sublayers that are left out; 0: none, whatever the server was started with",
    )

    user: str | None = Field(default=None, max_length=1024, description="accepted and ignored")
    metadata: dict[str, str] | None = Field(default=None, description="accepted and ignored")
    store: bool | None = Field(default=None, description="accepted; nothing is stored")
    service_tier: str | None = Field(default=None, description="accepted and ignored")
    safety_identifier: str | None = Field(default=None, description="accepted and ignored")
    prompt_cache_key: str | None = Field(
        default=None, description="accepted; equal prefixes are found"
    )

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise unsupported("stream_options", "is only allowed when stream is true")
        return self

    def pin_s(self) -> float:
        """How long to keep the whole prompt; 0 for no longer than others."""
        asked = float(self.pin or 0.0) if not isinstance(self.pin, bool) else 0.0
        if self.pin is True:
            asked = DEFAULT_PIN_S
        return max(asked, self.cache_control.seconds if self.cache_control else 0.0)

    def sparse_attention(self, default: SparseAttention) -> SparseAttention | None:
        """What the request asks of attention; `default`: what it does not say. None: nothing."""
        if self.attention is None:
            return None
        if isinstance(self.attention, str):
            return msgspec.structs.replace(default, selector=self.attention)
        return msgspec.structs.replace(default, **self.attention.model_dump(exclude_none=True))

    def stop_strings(self) -> tuple[str, ...]:
        """`stop` in its long form."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


def drop_neutral(data: Any, neutral: Mapping[str, Collection[Any]]) -> Any:
    """Removes fields of features that are not there yet when their value asks for nothing.

    Args:
        data: the body before validation; anything but a dict is left to the validation.
        neutral: field -> values beside null that ask for nothing.

    Raises:
        PydanticCustomError: a field asks for something.
    """
    if not isinstance(data, dict):
        return data
    for field in data.keys() & neutral.keys():
        value = data[field]
        if value is not None and value not in neutral[field]:
            raise unsupported(field)
    return {field: value for field, value in data.items() if field not in neutral}


def unsupported(field: str, reason: str = "is not supported yet") -> PydanticCustomError:
    """The error for a field, seen from its parent, whose value cannot be served."""
    return PydanticCustomError("unsupported_field", "{reason}", {"field": field, "reason": reason})


class PromptTokensDetails(ApiResponse):
    """How much of the prompt needed no computation."""

    cached_tokens: int
    truncated_tokens: int = Field(
        default=0,
        description="how many of the oldest tokens the context had no more room for",
    )


class Timings(ApiResponse):
    """Where the time went; None where nothing was measured."""

    ttft_ms: float | None = Field(default=None, description="arrival to first token, in the server")
    tokens_per_s: float | None = Field(default=None, description="after the first token")
    queue_ms: float | None = None
    prefill_ms: float | None = None
    e2e_ms: float | None = None
    num_preemptions: int = 0


class Usage(ApiResponse):
    """Tokens of a request; `artesian` is this server's addition."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    artesian: Timings
