"""Who calls, and the names that the caller gives the call."""

import re
import secrets
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.types import Scope

from artesian.api.auth import key_of

REQUEST_ID = re.compile(rb"[\w.:@/+=-]{1,128}", re.ASCII)
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


@dataclass(frozen=True)
class Caller:
    """Of one call.

    Attributes:
        key: tells API keys apart, and tells nothing about them.
        request_id: of `x-request-id`, the client's or ours.
        trace_id, parent_id: of `traceparent` (W3C), in hex; empty without one.
        started_s: when the call arrived, on the monotonic clock.
    """

    key: str
    request_id: str
    trace_id: str
    parent_id: str
    started_s: float


def request_id_of(scope: Scope) -> str:
    """The client's `x-request-id` if it is of a harmless form, or else a new one."""
    sent = dict(scope["headers"]).get(b"x-request-id", b"")
    return sent.decode() if REQUEST_ID.fullmatch(sent) else f"req-{secrets.token_hex(12)}"


def caller_of(request: Request) -> Caller:
    """The caller, once the request has passed the front door."""
    log: dict[str, Any] = request.scope["log"]
    trace_id, parent_id = trace_parent(request.headers.get("traceparent", "").encode())
    return Caller(key_of(request), log["request_id"], trace_id, parent_id, log["started_s"])


def trace_parent(header: bytes) -> tuple[str, str]:
    """The ids of the trace and of the parent's span; empty for what W3C says to ignore."""
    match = TRACEPARENT.fullmatch(header)
    if match is None or header.startswith(b"ff") or (match[3] and header.startswith(b"00")):
        return "", ""
    trace_id, parent_id = match[1].decode(), match[2].decode()
    return (trace_id, parent_id) if int(trace_id, 16) and int(parent_id, 16) else ("", "")
