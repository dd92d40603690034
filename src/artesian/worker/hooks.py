"""Where others take part in a request's life: it waits at a gate, and its steps are told."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from artesian.engine.base import Request
from artesian.worker.base import RequestDeadlineError

logger = logging.getLogger(__name__)

EventKind = Literal[
    "arrived",
    "let_in",
    "routed",
    "admitted",
    "prefill_wanted",
    "prefill_picked",
    "prefill_ended",
    "first_token",
    "retried",
    "finished",
]
"""In this order, most of them: `arrived` at the front; `let_in` by the gate; `routed` to a worker;
`admitted` to its queue. `prefill_*`: the worker wants the prompt computed by another one, one is
picked, and it ends. `retried`: its worker is gone and it waits for another. `finished`: whatever
the end is."""


class RequestEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A step in a request's life.

    Attributes:
        time_s: on `time.monotonic`'s clock.
        worker: "ID.GENERATION" of the worker that it has to do with, if any.
        detail: the outcome or the cause, in a word or a line.
        values: numbers that belong to it: tokens, bytes, milliseconds.
    """

    request_id: str
    kind: EventKind
    time_s: float
    worker: str = ""
    detail: str = ""
    values: dict[str, float] = {}


class Observer(Protocol):
    """Is told what happens to requests, on the front's event loop; must not wait."""

    def note(self, event: RequestEvent) -> None:
        """Something has happened."""


class Gate(Protocol):
    """Where requests wait before they are given to a worker."""

    async def enter(self, request: Request) -> None:
        """Waits for the request's turn.

        Raises:
            QueueFullError: it is refused; try again later.
        """

    def leave(self, request_id: str) -> None:
        """The request is over, however: called once for each that was to enter.

        One that still waits stops waiting: `enter` returns soon.
        """


class Hooks:
    """The gate and the observers of one front; there may be none."""

    def __init__(self, gate: Gate | None = None, observers: Sequence[Observer] = ()) -> None:
        self._gate = gate
        self._observers = list(observers)

    def observe(self, observer: Observer) -> None:
        """One more is told what happens."""
        self._observers.append(observer)

    def note(
        self,
        request_id: str,
        kind: EventKind,
        worker: str = "",
        detail: str = "",
        values: dict[str, float] | None = None,
    ) -> None:
        """Tells the observers; one that fails harms no request."""
        if not self._observers:
            return
        event = RequestEvent(
            request_id=request_id,
            kind=kind,
            time_s=time.monotonic(),
            worker=worker,
            detail=detail,
            values=values or {},
        )
        for observer in self._observers:
            try:
                observer.note(event)
            except Exception:
                logger.exception("an observer of requests failed")

    async def enter(self, request: Request) -> None:
        """Waits at the gate.

        Raises:
            QueueFullError: the gate refuses the request.
            RequestDeadlineError: its time was over first.
        """
        self.note(request.request_id, "arrived")
        if self._gate is not None:
            try:
                async with asyncio.timeout(request.timeout_s):
                    await self._gate.enter(request)
            except TimeoutError:
                message = f"the request had not begun after {request.timeout_s:g} s"
                raise RequestDeadlineError(message) from None
        self.note(request.request_id, "let_in")

    def leave(self, request_id: str, worker: str = "", detail: str = "") -> None:
        """The request is over."""
        if self._gate is not None:
            self._gate.leave(request_id)
        self.note(request_id, "finished", worker, detail)
