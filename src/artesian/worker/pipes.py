"""One-way pipes between processes: who listens binds a Unix socket, who sends connects to it.

A connecting socket takes messages before its peer is there, and again after a new peer has bound
the same address.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec
import zmq

logger = logging.getLogger(__name__)

MAX_QUEUED_MESSAGES = 20_000
RECONNECT_INTERVAL_MS = 20
MAX_MESSAGES_PER_TURN = 256

T = TypeVar("T")


class PipeFullError(RuntimeError):
    """The other side does not read its messages."""


class Outbox:
    """Sends messages to one address, without ever waiting."""

    def __init__(self, endpoint: str) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._context = zmq.Context()
        self._pipe = self._context.socket(zmq.PUSH)
        self._pipe.sndhwm = MAX_QUEUED_MESSAGES
        self._pipe.reconnect_ivl = RECONNECT_INTERVAL_MS
        self._pipe.connect(endpoint)
        self._closed = False

    def send(self, message: msgspec.Struct, prefix: bytes | None = None) -> None:
        """Queues a message, behind a frame with `prefix` if there is one.

        Raises:
            PipeFullError: too many wait already.
        """
        frame = self._encoder.encode(message)
        try:
            self._pipe.send_multipart([frame] if prefix is None else [prefix, frame], zmq.NOBLOCK)
        except zmq.Again:
            raise PipeFullError("the other side does not read its messages") from None

    def close(self, linger_ms: int = 0) -> None:
        """Closes it, after a short wait for what is still to be sent; may be called twice."""
        if not self._closed:
            self._closed = True
            self._pipe.close(linger=linger_ms)
            self._context.term()


class Inbox(Generic[T]):
    """Calls back with messages to one address, on the running event loop."""

    def __init__(self, endpoint: str, kind: Any, on_message: Callable[[T], None]) -> None:
        """`kind`: the type of the messages, a union of tagged structs.

        Raises:
            zmq.ZMQError: the address cannot be bound.
        """
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)
        self._on_message = on_message
        self._context = zmq.Context()
        self._pipe = self._context.socket(zmq.PULL)
        self._pipe.rcvhwm = MAX_QUEUED_MESSAGES
        self._pipe.bind(endpoint)
        self._loop = asyncio.get_running_loop()
        self._fd = self._pipe.fileno()
        self._closed = False
        self._loop.add_reader(self._fd, self.read)
        self._loop.call_soon(self.read)

    def read(self) -> None:
        """Delivers what is there: the descriptor only signals what is new."""
        for _ in range(MAX_MESSAGES_PER_TURN):
            if self._closed:
                return
            try:
                frame = self._pipe.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._on_message(self._decoder.decode(frame))
            except Exception:
                # What is behind a message that nobody understands must not wait for the next one.
                logger.exception("a message was dropped")
        self._loop.call_soon(self.read)

    def close(self) -> None:
        """Stops listening; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._fd)
        self._pipe.close(linger=0)
        self._context.term()
