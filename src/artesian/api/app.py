"""Puts the server's addresses together."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from artesian.api import errors, openapi
from artesian.api.front_door import FrontDoor
from artesian.api.routes import (
    chat,
    cluster,
    completions,
    later,
    models,
    operations,
    sessions,
    tokens,
    traces,
)
from artesian.api.state import ServerState


def create_api() -> FastAPI:
    """OpenAI's API and the operations, described by `openapi()`; needs a `ServerState` to run."""
    # The interactive docs would load scripts from elsewhere.
    api = FastAPI(title="Artesian", docs_url=None, redoc_url=None)
    errors.install(api)
    parts = (chat, completions, models, sessions, tokens, cluster, traces, operations, later)
    for part in parts:
        api.include_router(part.router)
    openapi.install(api)
    return api


def create_app(state: ServerState) -> ASGIApp:
    """The ASGI application of a server."""
    api = create_api()
    api.state.server = state
    if state.config.ui:
        from artesian.api import chat_page

        api.include_router(chat_page.router)
    return FrontDoor(api, state)
