"""What every HTTP request passes before anything else: limits, keys, and the log.

A plain ASGI wrapper, so that it also covers requests that match no address, and adds nothing to the
path of a streamed event but one function call.
"""

import asyncio
import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from artesian.api.auth import ApiKeys
from artesian.api.caller import request_id_of
from artesian.api.errors import ApiError, unavailable
from artesian.api.state import ServerState

logger = logging.getLogger("artesian.access")

# Open without a key: probes, metrics, and the page, which asks its user for the key.
OPEN_PATHS = frozenset({"/", "/cluster", "/health", "/ready", "/version", "/metrics"})
OPEN_PREFIXES = ("/static/",)
PROBE_PATHS = frozenset({"/health", "/ready", "/metrics"})
# What the cluster page asks twice a second.
WATCHED_PATHS = frozenset({"/v1/cluster", "/v1/traces"})


class FrontDoor:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs as an ASGI application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        started = time.monotonic()
        request_id = request_id_of(scope)
        scope["log"] = {"started_s": started, "request_id": request_id}
        status = 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                message = {**message, "headers": headers}
            await send(message)

        self._state.num_connections += 1
        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal.response()(scope, receive, send_noting_status)
            else:
                body = LimitedBody(receive, self._state)
                await self._app(scope, body.receive, send_noting_status)
        except Exception:
            status = status or 500
            raise
        finally:
            self._state.num_connections -= 1
            self._note(scope, status, time.monotonic() - started)

    def _refusal(self, scope: Scope) -> ApiError | None:
        """Why the request is not let in, if it is not."""
        state, path = self._state, scope["path"]
        if path in PROBE_PATHS and path != "/ready":
            return None
        if state.draining:
            return unavailable("the server is shutting down", code="shutting_down")
        if state.num_connections > state.config.max_connections:
            return unavailable(
                f"{state.config.max_connections} requests are in progress, the most allowed",
                code="too_many_connections",
            )
        headers = dict(scope["headers"])
        if state.keys.required and not (path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)):
            key = state.keys.find(headers.get(b"authorization"))
            if key is None:
                return _unauthorized(state.keys, headers.get(b"authorization"))
            scope["api_key"] = key
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > state.config.max_body_bytes:
            return body_too_large(state.config.max_body_bytes, int(length))
        return None

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        # Addresses that do not exist share one label: clients could invent any number of them.
        path = getattr(route, "path", "other")
        self._state.metrics.responses.labels(path=path, status=str(status)).inc()
        is_routine = scope["path"] in PROBE_PATHS | WATCHED_PATHS
        level = logging.DEBUG if is_routine else logging.INFO
        if logger.isEnabledFor(level):
            logger.log(level, "%s", _log_line(scope, status, seconds))


class LimitedBody:
    """A request's body, cut off when it gets too long or does not go on."""

    def __init__(self, receive: Receive, state: ServerState) -> None:
        self._receive = receive
        self._limit_bytes = state.config.max_body_bytes
        self._timeout_s = state.config.body_timeout_s
        self._num_bytes = 0
        self._complete = False

    async def receive(self) -> Message:
        """The next message. Raises `ApiError` (413, 408)."""
        if self._complete:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._timeout_s)
        except TimeoutError:
            raise ApiError(
                408,
                f"the body did not go on for {self._timeout_s:g} s",
                headers={"Connection": "close"},
            ) from None
        if message["type"] == "http.request":
            self._num_bytes += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._num_bytes > self._limit_bytes:
                raise body_too_large(self._limit_bytes, None)
        return message


def body_too_large(limit_bytes: int, length_bytes: int | None) -> ApiError:
    """413; the rest of the body is not read, so the connection cannot be used again."""
    size = "" if length_bytes is None else f" of {length_bytes} bytes"
    return ApiError(
        413,
        f"the body{size} is larger than the limit of {limit_bytes} bytes",
        code="body_too_large",
        headers={"Connection": "close"},
    )


def _unauthorized(keys: ApiKeys, sent: bytes | None) -> ApiError:
    what = "wrong API key" if sent else "no API key; send it as 'Authorization: Bearer KEY'"
    return ApiError(
        401,
        what,
        type_="authentication_error",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _log_line(scope: Scope, status: int, seconds: float) -> str:
    """`METHOD path status ms` and key=value pairs; what a client wrote is escaped."""
    path = scope["path"].encode("unicode_escape").decode()
    line = f"{scope['method']} {path} {status} {seconds * 1000:.0f}ms"
    log: dict[str, Any] = scope["log"]
    if "id" in log:
        meter = log["meter"]
        line += (
            f" id={log['id']} prompt_tokens={meter.prompt_tokens}"
            f" cached_tokens={meter.cached_tokens} completion_tokens={meter.completion_tokens}"
        )
    return line
