"""The server's addresses, one module for each group."""

from typing import Any

from artesian.api.errors import ErrorBody

REASONS = {
    400: "the request is wrong; the message names the field and its value",
    401: "the API key is missing or wrong",
    403: "not from here",
    404: "no such model, or no such session",
    408: "the client was too slow to send its request",
    409: "the session is in use, or the cluster cannot be changed so",
    413: "the body is larger than allowed",
    429: "the queue is full; try again later",
    500: "a defect, or a worker that ended twice",
    501: "not implemented yet",
    503: "the model is loading, or the server is shutting down",
    504: "no token was ready in time",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of error responses."""
    return {status: {"model": ErrorBody, "description": REASONS[status]} for status in statuses}


GENERATION_ERRORS = errors(400, 401, 404, 408, 413, 429, 500, 503, 504)
BODY_ERRORS = errors(400, 401, 404, 408, 413, 503)
PLAIN_ERRORS = errors(401, 404, 503)
# Each event's data is a chunk as JSON; the last one's is `[DONE]`.
EVENT_STREAM: dict[str, Any] = {
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "object",
                "properties": {"data": {"type": "string"}},
                "required": ["data"],
            }
        }
    },
}
