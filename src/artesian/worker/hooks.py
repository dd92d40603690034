"""The steps of a request's life, for those who are told."""

import logging
import time
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

logger = logging.getLogger(__name__)

EventKind = Literal[
    "arrived",
    "routed",
    "admitted",
    "prefill_wanted",
    "prefill_picked",
    "prefill_ended",
    "first_token",
    "retried",
    "finished",
]
"""In this order, most of them: `arrived` at the front; `routed` to a worker; `admitted` to its
queue. `prefill_*`: the worker wants the prompt computed by another one, one is
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


class Hooks:
    """The observers of one front; there may be none."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
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

    def leave(self, request_id: str, worker: str = "", detail: str = "") -> None:
        """The request is over."""
        self.note(request_id, "finished", worker, detail)
