"""Limits below HTTP: how many connections there are, and how long one may do nothing."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE_CHECK_S = 30.0


def connection_class(max_connections: int, idle_check_s: float = IDLE_CHECK_S) -> type[H11Protocol]:
    """A protocol for uvicorn that closes connections beyond `max_connections` at once, and those
    that start no request between two checks, `idle_check_s` apart.

    Without it, clients that connect and send nothing, or half a header, would use up the
    process's file descriptors.
    """

    class BoundedConnection(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._last_cycle: object = self
            self._idle_check: asyncio.TimerHandle | None = None
            if len(self.connections) > max_connections:
                transport.abort()
            else:
                self._check_idle()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._idle_check is not None:
                self._idle_check.cancel()
            super().connection_lost(exc)

        def _check_idle(self) -> None:
            cycle = self.cycle
            is_idle = cycle is None or cycle.response_complete
            if is_idle and cycle is self._last_cycle:
                self.transport.close()
                return
            self._last_cycle = cycle
            self._idle_check = self.loop.call_later(idle_check_s, self._check_idle)

    return BoundedConnection
