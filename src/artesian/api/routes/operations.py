"""`/health`, `/ready`, `/version` and `/metrics`: for people and machines that run the server."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from artesian import __version__
from artesian.api.errors import unavailable
from artesian.api.protocol.models import Status, Version
from artesian.api.routes import errors
from artesian.api.state import State

router = APIRouter()


@router.get("/health")
async def health() -> Status:
    """Whether the server's process is up, whatever its worker does."""
    return Status(status="ok")


@router.get("/ready", responses=errors(503))
async def ready(state: State) -> Status:
    """Whether requests can be served now."""
    state.info()
    if state.engine.state != "ready":
        raise unavailable(f"the worker is {state.engine.state}", code="worker_unavailable")
    return Status(status="ready")


@router.get("/version")
async def version() -> Version:
    """The server's version."""
    return Version(version=__version__)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(state: State) -> Response:
    """Metrics in Prometheus's text format."""
    return Response(state.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
