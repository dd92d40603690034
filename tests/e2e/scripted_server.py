"""The chat page in front of a scripted model: exact streams and refusals a real one cannot be
made to give on demand."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from artesian.api.chat_page import router

START_TIMEOUT_S = 10


@dataclass
class Script:
    """What the next answers are, and what the page asked."""

    pieces: list[str] = field(default_factory=lambda: ["Hello."])
    pause_s: float = 0.0
    refusal: Response | None = None
    breaks_after: int | None = None
    key: str = ""
    is_ready: bool = True
    requests: list[dict[str, Any]] = field(default_factory=list)

    def reset(self) -> None:
        """Back to a short, complete answer for everyone."""
        self.__dict__.update(Script().__dict__)


def refusal(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error in OpenAI's form."""
    return JSONResponse({"error": {"message": message}}, status_code=status, headers=headers)


def _event(payload: dict[str, Any]) -> str:
    return f"data: {json.dumps(payload)}\r\n\r\n"


async def _stream(script: Script) -> AsyncIterator[str]:
    yield ": comments are skipped\r\n\r\n"
    for index, piece in enumerate(script.pieces):
        if index == script.breaks_after:
            return
        yield _event({"choices": [{"index": 0, "delta": {"content": piece}}]})
        await asyncio.sleep(script.pause_s)
    yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": len(script.pieces),
        "prompt_tokens_details": {"cached_tokens": 64},
    }
    yield _event({"choices": [], "usage": usage})
    yield "data: [DONE]\r\n\r\n"


def _app(script: Script) -> FastAPI:
    app = FastAPI()
    app.include_router(router)

    def locked(request: Request) -> Response | None:
        if script.key and request.headers.get("authorization") != f"Bearer {script.key}":
            return refusal(401, "This server needs an API key.")
        return None

    @app.get("/v1/models")
    def models(request: Request) -> Response:
        if not script.is_ready:
            return refusal(503, "The model is being loaded.")
        return locked(request) or JSONResponse({"data": [{"id": "scripted"}]})

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        script.requests.append(await request.json())
        refused = locked(request) or script.refusal
        return refused or StreamingResponse(_stream(script), media_type="text/event-stream")

    return app


@contextmanager
def scripted_server() -> Iterator[tuple[str, Script]]:
    """Serves in a thread on a free port; gives the address and the script."""
    script = Script()
    server = uvicorn.Server(uvicorn.Config(_app(script), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not server.started and time.monotonic() < deadline_s:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/", script
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT_S)
