"""What can happen to a request between the front and a worker, and the states of a worker."""

from typing import Literal

WorkerState = Literal["starting", "ready", "restarting", "failed", "stopped"]


class WorkerUnavailableError(RuntimeError):
    """No worker takes requests at the moment (HTTP 503)."""


class WorkerDiedError(RuntimeError):
    """The worker ended twice while it ran the request (HTTP 500)."""


class InternalEngineError(RuntimeError):
    """A defect showed while the engine took the request (HTTP 500)."""


class SlowClientError(RuntimeError):
    """The client reads more slowly than its bound allows."""


class RequestDeadlineError(TimeoutError):
    """The request's time was over before a worker could take it (HTTP 504)."""
