"""Puts the server's addresses together."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from artesian.api import errors, openapi
from artesian.api.front_door import FrontDoor
from artesian.api.routes import chat, completions, later, models, operations, tokens
from artesian.api.state import ServerState


def create_app(state: ServerState) -> ASGIApp:
    """The ASGI application of a server."""
    # The interactive docs would load scripts from elsewhere.
    app = FastAPI(title="Artesian", docs_url=None, redoc_url=None)
    app.state.server = state
    errors.install(app)
    for part in (chat, completions, models, tokens, operations, later):
        app.include_router(part.router)
    if state.config.ui:
        from artesian.api import chat_page

        app.include_router(chat_page.router)
    openapi.install(app)
    return FrontDoor(app, state)
