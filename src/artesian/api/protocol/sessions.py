"""`/v1/sessions` and `/v1/cache/explain`."""

from typing import Literal

from pydantic import Field

from artesian.api.protocol.base import DEFAULT_PIN_S, MAX_PIN_S, ApiRequest, ApiResponse
from artesian.api.protocol.tokens import TokenizeRequest


class Session(ApiResponse):
    """A conversation whose requests brought its id."""

    id: str
    object: Literal["session"] = "session"
    created: int = Field(description="Unix time")
    last_used: int = Field(description="Unix time")
    num_tokens: int = Field(description="of its longest prompt with the answer")
    num_blocks: int = Field(description="KV blocks that belong to it")
    num_blocks_in: dict[str, int] = Field(
        description="where they are: memory, and tiers of the context cache"
    )
    num_blocks_pinned_in: dict[str, int] = Field(description="those that stay in each tier")
    pinned_until: int | None = Field(description="Unix time; null when nothing is pinned")


class SessionList(ApiResponse):
    """The sessions of a key or cache salt, the one used last first."""

    object: Literal["list"] = "list"
    data: list[Session]


class SessionDeleted(ApiResponse):
    """What became of a deletion."""

    id: str
    object: Literal["session.deleted"] = "session.deleted"
    deleted: bool = Field(description="false: it goes on; ask again")
    num_blocks: int = Field(description="blocks taken away; shared ones stay")


class SessionResumed(ApiResponse):
    """What is ready for the session's next request."""

    id: str
    object: Literal["session.resumed"] = "session.resumed"
    num_blocks_in_memory: int
    num_blocks_coming: int


class PinRequest(ApiRequest):
    """How long a session stays."""

    seconds: float = Field(default=DEFAULT_PIN_S, gt=0, le=MAX_PIN_S)


class ExplainRequest(TokenizeRequest):
    """A prompt, as for `/tokenize`."""

    cache_salt: str | None = Field(default=None, min_length=1, max_length=256)


class CacheExplanation(ApiResponse):
    """Which blocks of a prompt are cached, and why the first missing one is missing."""

    object: Literal["cache.explanation"] = "cache.explanation"
    explanation: str = Field(description="for a person")
    num_tokens: int
    block_size_tokens: int
    num_usable_blocks: int = Field(description="the last token is always computed")
    num_blocks_in_memory: int
    num_blocks_in_tiers: dict[str, int]
    missing_block: int | None = Field(description="the first; null when none is missing")
    cause: str = Field(description="what became of it; none when none is missing")
