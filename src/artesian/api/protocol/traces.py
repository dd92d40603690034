"""`/v1/traces`: what happened to requests."""

from typing import Literal

from pydantic import Field

from artesian.api.protocol.base import ApiResponse


class TraceSpan(ApiResponse):
    """A part of a request's life; times are since its arrival."""

    name: str
    start_ms: float
    end_ms: float | None = Field(description="null while it goes on")
    parent: int = Field(description="index of the span that it is a part of; -1: the request")
    worker: str = Field(description="ID.GENERATION")
    outcome: str
    values: dict[str, float] = Field(description="tokens, bytes, milliseconds")


class RequestTrace(ApiResponse):
    """One request's way through the server; it has none of its text."""

    object: Literal["trace"] = "trace"
    id: str = Field(description="of the response")
    request_id: str = Field(description="of the header x-request-id")
    trace_id: str = Field(description="of the header traceparent")
    started: float = Field(description="Unix time")
    duration_ms: float | None
    age_ms: float = Field(description="since its arrival")
    status: str = Field(description="running, how it ended, or why it was refused")
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    ttft_ms: float | None
    num_retries: int
    num_dropped_spans: int
    spans: list[TraceSpan]


class TraceList(ApiResponse):
    """Requests of one API key."""

    object: Literal["list"] = "list"
    data: list[RequestTrace]
