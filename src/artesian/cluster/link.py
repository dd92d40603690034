"""The front's line to the keeper: it learns who the workers are, and asks for changes."""

import asyncio
import contextlib
from collections.abc import Callable
from itertools import count

from artesian.cluster.base import (
    Change,
    ChangeAsked,
    ChangeDone,
    ClusterError,
    Ended,
    FrontFailed,
    FrontPulse,
    FrontSpec,
    Membership,
    ToFront,
)
from artesian.worker.pipes import Inbox, Outbox, PipeFullError

PULSE_INTERVAL_S = 0.5
CHANGE_TIMEOUT_S = 30.0
LINGER_MS = 1_000


class KeeperLink:
    """Lives on the front's event loop; a loop that hangs gives no sign of life.

    `is_ready` says whether the front serves.
    """

    def __init__(
        self,
        spec: FrontSpec,
        on_membership: Callable[[Membership], None],
        on_end: Callable[[str], None],
    ) -> None:
        self.is_ready = False
        self._generation = spec.generation
        self._on_membership = on_membership
        self._on_end = on_end
        self._call_ids = count()
        self._changes: dict[int, asyncio.Future[str]] = {}
        self._to_keeper = Outbox(spec.keeper_endpoint)
        self._inbox: Inbox[ToFront] = Inbox(spec.inbox_endpoint, ToFront, self._on_message)
        self._task = asyncio.create_task(self._beat())

    async def ask_change(self, change: Change) -> str:
        """Has the cluster changed; returns the id of the worker that it is about.

        Raises:
            ClusterError: it cannot be done, or is not done in time.
        """
        call_id = next(self._call_ids)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._changes[call_id] = future
        try:
            self._to_keeper.send(ChangeAsked(call_id, change))
            return await asyncio.wait_for(future, CHANGE_TIMEOUT_S)
        except (TimeoutError, PipeFullError):
            raise ClusterError("the keeper of the cluster does not answer") from None
        finally:
            del self._changes[call_id]

    def fail(self, message: str) -> None:
        """Tells the keeper that no front can serve."""
        with contextlib.suppress(PipeFullError):
            self._to_keeper.send(FrontFailed(self._generation, message))

    def beat(self) -> None:
        """Tells the keeper that the front lives."""
        with contextlib.suppress(PipeFullError):
            self._to_keeper.send(FrontPulse(self._generation, self.is_ready))

    def close(self) -> None:
        """Closes the line."""
        self._task.cancel()
        self._inbox.close()
        self._to_keeper.close(LINGER_MS)

    async def _beat(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(PULSE_INTERVAL_S)

    def _on_message(self, message: ToFront) -> None:
        match message:
            case Membership():
                self._on_membership(message)
            case Ended(cause):
                self._on_end(cause)
            case ChangeDone(call_id, worker_id, error):
                future = self._changes.get(call_id)
                if future is None or future.done():
                    return
                if error:
                    future.set_exception(ClusterError(error))
                else:
                    future.set_result(worker_id)
