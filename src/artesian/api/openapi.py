"""The OpenAPI description, as the server really behaves."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from artesian import __version__


def install(app: FastAPI) -> None:
    """Replaces FastAPI's description: invalid input is a 400 here, never a 422."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=__version__, routes=app.routes)
            for path in schema["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                schema["components"]["schemas"].pop(name, None)
            schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]
