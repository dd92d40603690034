"""Requests of a front: which worker has each, and what becomes of them when it dies."""

import logging
from collections.abc import Callable, Iterable

from artesian.cluster.member import Member
from artesian.engine.base import InvalidRequestError, QueueFullError, Request, RequestOutput
from artesian.worker.base import (
    InternalEngineError,
    RequestDeadlineError,
    WorkerDiedError,
    WorkerUnavailableError,
)
from artesian.worker.hooks import Hooks
from artesian.worker.messages import Abort, Rejected, Submit
from artesian.worker.stream import RequestStream

logger = logging.getLogger(__name__)

MAX_RETRIES = 3
"""A request that was with more workers when they died may be what killed them."""


class Dispatch:
    """`choose` picks the worker for a request, or None while there is none."""

    def __init__(self, choose: Callable[[Request], Member | None], hooks: Hooks) -> None:
        self._choose = choose
        self._hooks = hooks
        self._streams: dict[str, RequestStream] = {}
        self._members: dict[str, Member] = {}
        self._waiting: dict[str, RequestStream] = {}
        self.num_sequences = 0

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def num_waiting(self) -> int:
        """Requests that no worker has yet."""
        return len(self._streams) - len(self._members)

    def streams(self) -> Iterable[RequestStream]:
        """All requests."""
        return list(self._streams.values())

    async def run(self, stream: RequestStream) -> None:
        """Takes a request in and waits until a worker has queued it. Raises what ends it."""
        self._streams[stream.request.request_id] = stream
        self.num_sequences += stream.num_sequences
        try:
            self._hooks.note(stream.request.request_id, "arrived")
            self._route(stream)
            await stream.admitted
        except BaseException:
            self.abort(stream)
            raise

    def abort(self, stream: RequestStream) -> None:
        """Gives a request up; nothing happens if it is over."""
        request_id = stream.request.request_id
        if self._streams.get(request_id) is stream:
            member = self._members.get(request_id)
            self._forget(stream)
            if member is not None:
                member.send(Abort(request_id))

    def fail_all(self, reason: str) -> None:
        """Ends all requests with a `WorkerUnavailableError`."""
        for stream in self.streams():
            stream.fail(WorkerUnavailableError(reason))
            self.abort(stream)

    def route_waiting(self) -> None:
        """A worker may be there now for those that wait."""
        for stream in list(self._waiting.values()):
            self._route(stream)

    def leave(self, member: Member, cause: str, *, is_killed: bool) -> None:
        """A worker is gone; its requests go on elsewhere. Without `is_killed` it was asked to."""
        for stream in list(member.streams.values()):
            request_id = stream.request.request_id
            self._take_from(member, request_id)
            stream.num_retries += is_killed
            if stream.num_retries > MAX_RETRIES:
                message = (
                    f"the request was tried {stream.num_retries} times, and each time its worker "
                    f"died; the last one {cause}"
                )
                stream.fail(WorkerDiedError(message))
                self._forget(stream)
                continue
            self._hooks.note(request_id, "retried", member.name, cause)
            self._waiting[request_id] = stream
        self.route_waiting()

    def admitted(self, member: Member, request_id: str) -> None:
        """A worker has queued a request."""
        stream = member.streams.get(request_id)
        if stream is not None and not stream.admitted.done():
            stream.admitted.set_result(None)
            self._hooks.note(request_id, "admitted", member.name)

    def rejected(self, member: Member, report: Rejected) -> None:
        """A worker does not take a request."""
        stream = member.streams.get(report.request_id)
        if stream is not None:
            errors = {"invalid": InvalidRequestError, "queue_full": QueueFullError}
            stream.fail(errors.get(report.kind, InternalEngineError)(report.message))
            self._forget(stream)

    def push(self, member: Member, output: RequestOutput) -> None:
        """A worker has produced something; what it has not is not listened to."""
        stream = member.streams.get(output.request_id)
        if stream is None:
            return
        is_first = stream.num_output_tokens == 0
        if is_first and output.token_ids:
            member.speed.note_first(output)
        stream.push(output)
        if is_first and stream.num_output_tokens:
            self._hooks.note(output.request_id, "first_token", member.name)
        if stream.error is not None:
            self.abort(stream)  # the front ended it: the worker does not know yet
        elif stream.finished:
            self._forget(stream)

    def _route(self, stream: RequestStream) -> None:
        """Gives a request to a worker, or has it wait for one."""
        request_id = stream.request.request_id
        if stream.finished:
            return
        member = self._choose(stream.request)
        if member is None:
            self._waiting[request_id] = stream
            return
        self._waiting.pop(request_id, None)
        try:
            request = stream.next_request()
        except RequestDeadlineError as error:
            stream.fail(error)
            self._forget(stream)
            return
        member.streams[request_id] = self._streams[request_id]
        self._members[request_id] = member
        stream.worker = member.name
        self._hooks.note(request_id, "routed", member.name)
        member.send(Submit(request))

    def expire(self) -> None:
        """Ends those that wait for a worker and have no time left."""
        for stream in list(self._waiting.values()):
            try:
                stream.next_request()
            except RequestDeadlineError as error:
                stream.fail(error)
                self._forget(stream)

    def _take_from(self, member: Member, request_id: str) -> None:
        member.streams.pop(request_id, None)
        self._members.pop(request_id, None)

    def _forget(self, stream: RequestStream) -> None:
        request_id = stream.request.request_id
        if self._streams.pop(request_id, None) is None:
            return
        member = self._members.get(request_id)
        if member is not None:
            self._take_from(member, request_id)
        self._waiting.pop(request_id, None)
        self.num_sequences -= stream.num_sequences
        self._hooks.leave(request_id, stream.worker, stream.end)
