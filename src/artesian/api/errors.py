"""Errors as OpenAI's clients expect them: `{"error": {message, type, param, code}}`."""

import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from artesian.cluster.overload import OverloadError
from artesian.engine.base import InvalidRequestError, QueueFullError
from artesian.worker.base import (
    InternalEngineError,
    RequestDeadlineError,
    SlowClientError,
    WorkerDiedError,
    WorkerUnavailableError,
)

MAX_SHOWN_VALUE_CHARS = 80
# What pydantic puts into a location beside fields and indices: the branch of a union.
UNION_BRANCH = re.compile(r"^(str|int|float|bool|dict|list)$|[\[\-(]|^[A-Z]")


class ErrorDetail(BaseModel):
    """What went wrong, for people (message) and programs (type, param, code)."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every response that is not a success."""

    error: ErrorDetail


class ApiError(HTTPException):
    """An error with an HTTP status and OpenAI's fields."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type_: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.type = type_
        self.param = param
        self.code = code

    def body(self) -> bytes:
        """The JSON body; ASCII, so that no broken character of the request can break it."""
        error = {
            "message": self.detail,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return json.dumps({"error": error}).encode()

    def response(self) -> Response:
        """The HTTP response."""
        headers = dict(self.headers or {})
        return Response(self.body(), self.status_code, headers, "application/json")


def to_api_error(error: BaseException) -> ApiError:
    """The HTTP error for anything that can go wrong with a request."""
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            return validation_error(error.errors())
        case HTTPException():
            return _http_error(error)
        case InvalidRequestError():
            return ApiError(400, str(error))
        case QueueFullError():
            return _overload(error)
        case WorkerUnavailableError():
            return unavailable(str(error))
        case RequestDeadlineError():
            return ApiError(504, str(error), type_="timeout_error", code="deadline_exceeded")
        case SlowClientError():
            return ApiError(400, str(error), code="client_too_slow")
        case WorkerDiedError() | InternalEngineError():
            return ApiError(500, str(error), type_="server_error", code="worker_error")
    return ApiError(
        500, "an internal error happened; the server's log has it", type_="server_error"
    )


def _overload(error: QueueFullError) -> ApiError:
    """429: with the time after which it is worth trying again."""
    code, seconds = "queue_full", 1
    if isinstance(error, OverloadError):
        code, seconds = error.reason, error.retry_after_s
    headers = {"Retry-After": str(seconds)}
    return ApiError(429, str(error), type_="rate_limit_error", code=code, headers=headers)


def unavailable(message: str, code: str = "unavailable") -> ApiError:
    """503: the same request may work in a moment."""
    return ApiError(503, message, type_="server_error", code=code, headers={"Retry-After": "1"})


def model_not_found(name: str, served: str) -> ApiError:
    """404 for a model that is not served here."""
    return ApiError(
        404,
        f"the model {shown(name)} does not exist; this server has {shown(served)}",
        param="model",
        code="model_not_found",
    )


def validation_error(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """400 that names a wrong field and its value.

    The innermost of several: where a field may have several forms, its error is about the form
    that was meant.
    """
    first = max(errors, key=lambda error: len(error["loc"]))
    kind, context = first["type"], first.get("ctx", {})
    if kind == "json_invalid":
        position = first["loc"][-1]
        return ApiError(400, f"the body is not JSON: {context.get('error')} at position {position}")
    field = _field(first["loc"])
    if kind == "unsupported_field":
        field = ".".join(filter(None, [field, str(context["field"])]))
        message = f"{field} {first['msg']}"
        return ApiError(400, message, param=field, code="unsupported_parameter")
    if kind == "extra_forbidden":
        return ApiError(400, f"unknown field: {field}", param=field, code="unknown_parameter")
    if not field:
        return ApiError(
            400, "the body must be a JSON object, sent with Content-Type: application/json"
        )
    if kind == "missing":
        return ApiError(400, f"missing field: {field}", param=field)
    message = f"{field}: {first['msg']}; the value is {shown(first.get('input'))}"
    return ApiError(400, message, param=field, code="invalid_value")


def shown(value: object) -> str:
    """A value as JSON, cut where it gets long."""
    try:
        text = json.dumps(value, default=repr)
    except (TypeError, ValueError, RecursionError):
        text = repr(type(value))
    if len(text) > MAX_SHOWN_VALUE_CHARS:
        text = f"{text[:MAX_SHOWN_VALUE_CHARS]}… ({len(text)} characters)"
    return text


def install(app: FastAPI) -> None:
    """Gives every error of `app` its OpenAI body; 500s are logged by the server."""

    async def handle(request: Request, error: Exception) -> Response:
        return to_api_error(error).response()

    for kind in (RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, handle)
    for kind in (InvalidRequestError, QueueFullError, WorkerUnavailableError, WorkerDiedError):
        app.add_exception_handler(kind, handle)
    for kind in (RequestDeadlineError, SlowClientError, InternalEngineError):
        app.add_exception_handler(kind, handle)


def _http_error(error: HTTPException) -> ApiError:
    phrase = HTTPStatus(error.status_code).phrase
    message = error.detail or phrase
    if error.detail == phrase:
        hints = {404: "there is nothing at this address", 405: "this address does not take that"}
        message = hints.get(error.status_code, phrase)
    return ApiError(error.status_code, message, headers=error.headers)


def _field(location: Sequence[str | int]) -> str:
    """`("body", "messages", 0, "content", "str")` as `messages[0].content`."""
    text = ""
    for part in location[1:]:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not (text and UNION_BRANCH.search(part)):
            text += f".{part}" if text else part
    return text
