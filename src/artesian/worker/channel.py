"""The two ZeroMQ pipes between the front and one worker.

Commands flow one way and reports the other, each through a PUSH/PULL pair on a Unix socket in a
directory that only this user can enter. A worker gets endpoints of its own, so that nothing a dead
worker left in a pipe can reach its successor. Commands are bounded by the front's admission,
reports by the steps the front lags behind.

In a cluster fronts come and go while workers stay. Every command bears its sender's generation, and
those of fronts before the attached one are dropped, however late they come out of a pipe.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import zmq

from artesian.worker.messages import Attach, Command, Report
from artesian.worker.pipes import (
    MAX_MESSAGES_PER_TURN,
    MAX_QUEUED_MESSAGES,
    Inbox,
    Outbox,
    PipeFullError,
)

logger = logging.getLogger(__name__)

# A worker whose front has read nothing for so long gives up.
SEND_TIMEOUT_MS = 30_000
LINGER_MS = 2_000
KEEPER_GENERATION = (1 << 64) - 1
"""The sender of a cluster's keeper, whose commands are always heard."""


class ChannelError(RuntimeError):
    """The other side does not read its messages."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The addresses of a pair of pipes; `directory` is removed with them, if it is not None."""

    commands: str
    reports: str
    directory: Path | None = None

    @classmethod
    def in_new_directory(cls) -> "Endpoints":
        """Addresses in a directory of their own."""
        directory = Path(tempfile.mkdtemp(prefix="artesian-", dir=_short_directory()))
        return cls(f"ipc://{directory}/commands", f"ipc://{directory}/reports", directory)


class FrontChannel:
    """The front's side: sends commands, calls back with reports on the running event loop."""

    def __init__(
        self,
        on_report: Callable[[Report], None],
        endpoints: Endpoints | None = None,
        generation: int = 1,
    ) -> None:
        """`generation`: of this front."""
        endpoints = endpoints or Endpoints.in_new_directory()
        self._directory = endpoints.directory
        self.command_endpoint, self.report_endpoint = endpoints.commands, endpoints.reports
        self._sender = generation.to_bytes(8, "little")
        self._commands = Outbox(endpoints.commands)
        self._reports: Inbox[Report] = Inbox(endpoints.reports, Report, on_report)

    def send(self, command: Command) -> None:
        """Queues a command without waiting. Raises `ChannelError` when the queue is full."""
        try:
            self._commands.send(command, self._sender)
        except PipeFullError:
            raise ChannelError("the worker does not read its commands") from None

    def drain(self) -> None:
        """Delivers what a worker that just exited had still sent."""
        self._reports.read()

    def close(self) -> None:
        """Closes both pipes and removes their directory; may be called twice."""
        self._commands.close()
        self._reports.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


class WorkerChannel:
    """The worker's side; each thread that sends has one of its own."""

    def __init__(self, report_endpoint: str = "", command_endpoint: str | None = None) -> None:
        """Without a `report_endpoint` reports are dropped until a front attaches."""
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
        self._context = zmq.Context()
        self._reports: zmq.Socket[bytes] | None = None
        self._is_shared = not report_endpoint
        self._front_generation = 0
        if report_endpoint:
            self._reports = self._connect(report_endpoint)
        self._commands = self._context.socket(zmq.PULL)
        self._commands.rcvhwm = MAX_QUEUED_MESSAGES
        if command_endpoint is not None:
            self._commands.bind(command_endpoint)

    def attach(self, attach: Attach) -> None:
        """From now on reports go to this front, and commands of those before it are dropped."""
        self._detach()
        self._front_generation = attach.front_generation
        self._reports = self._connect(attach.report_endpoint)

    def send(self, report: Report) -> None:
        """Sends a report to the front that is attached, if one is.

        Raises:
            ChannelError: the only front that there can be has not read for long. Others are given
                up; the next one attaches.
        """
        if self._reports is None:
            return
        try:
            self._reports.send(self._encoder.encode(report))
        except zmq.Again:
            if not self._is_shared:
                raise ChannelError("the front does not read the worker's reports") from None
            logger.error("front %d does not read: it is given up", self._front_generation)
            self._detach()

    def receive(self, timeout_s: float) -> list[Command]:
        """Commands that are there, in order; if there are none, waits for one so long."""
        commands: list[Command] = []
        if timeout_s > 0:
            self._commands.poll(round(timeout_s * 1e3))
        while len(commands) < MAX_MESSAGES_PER_TURN:
            try:
                sender, frame = self._commands.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            if int.from_bytes(sender, "little") >= self._front_generation:
                commands.append(self._decoder.decode(frame))
            if commands and isinstance(commands[-1], Attach):
                # What is behind it may be of the front before it.
                break
        return commands

    def close(self) -> None:
        """Closes both pipes after a short wait for what is still to be sent."""
        self._commands.close(linger=0)
        if self._reports is not None:
            self._reports.close(linger=LINGER_MS)
        self._context.term()

    def drop(self) -> None:
        """Closes both pipes at once."""
        self._detach()
        self.close()

    def _connect(self, endpoint: str) -> "zmq.Socket[bytes]":
        reports = self._context.socket(zmq.PUSH)
        reports.sndhwm = MAX_QUEUED_MESSAGES
        reports.sndtimeo = SEND_TIMEOUT_MS
        reports.connect(endpoint)
        return reports

    def _detach(self) -> None:
        if self._reports is not None:
            self._reports.close(linger=0)
            self._reports = None


def _short_directory() -> str | None:
    """A parent whose path leaves room for a socket's name (107 bytes in all)."""
    default = tempfile.gettempdir()
    return default if len(default.encode()) < 70 else "/tmp"
