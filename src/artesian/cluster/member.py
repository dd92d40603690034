"""The front's side of one worker process."""

import logging
import time
from collections.abc import Callable

from artesian.cluster.base import MemberRecord
from artesian.cluster.speed import SpeedMeter
from artesian.engine.base import EngineInfo, EngineStats
from artesian.worker.channel import ChannelError, Endpoints, FrontChannel
from artesian.worker.client import MemberState
from artesian.worker.messages import Attach, Command, Report, SetPeers
from artesian.worker.stream import RequestStream

logger = logging.getLogger(__name__)


class Member:
    """A worker from the moment the keeper tells of it until it tells of its end.

    Attributes:
        record: what the keeper says.
        info: None until it is ready.
        streams: requests that it has, by id.
        heard: when it gave its last sign of life.
        num_peers: workers that it was told would prefill for it.
    """

    def __init__(
        self,
        record: MemberRecord,
        front_generation: int,
        directory: str,
        on_report: Callable[["Member", Report], None],
    ) -> None:
        """Attaches to the worker."""
        self.record = record
        self.info: EngineInfo | None = None
        self.stats = EngineStats()
        self.speed = SpeedMeter()
        self.streams: dict[str, RequestStream] = {}
        self.heard = time.monotonic()
        self.is_silent = False
        self.num_peers = 0
        endpoints = Endpoints(record.command_endpoint, f"ipc://{directory}/{record.name}")
        self._channel = FrontChannel(
            lambda report: on_report(self, report), endpoints, front_generation
        )
        self.send(Attach(front_generation, endpoints.reports))

    @property
    def name(self) -> str:
        """See `MemberRecord`."""
        return self.record.name

    @property
    def state(self) -> MemberState:
        """What can be expected of it."""
        if self.info is None:
            return "starting"
        if self.is_silent:
            return "silent"
        return "draining" if self.record.is_draining else "ready"

    @property
    def num_sequences(self) -> int:
        """That it runs, or has waiting."""
        return sum(stream.num_sequences for stream in self.streams.values())

    @property
    def num_unstarted_tokens(self) -> int:
        """Of prompts without a first token."""
        return sum(
            len(stream.request.prompt_token_ids)
            for stream in self.streams.values()
            if not stream.num_output_tokens
        )

    def send(self, command: Command) -> None:
        """Sends a command; what a worker does not take waits for its end, which is near."""
        try:
            self._channel.send(command)
        except ChannelError as error:
            logger.error("%s: %s", self.name, error)

    def tell_peers(self, num_prefill: int) -> None:
        """Tells the worker how many would prefill for it, if that has changed."""
        if num_prefill != self.num_peers:
            self.num_peers = num_prefill
            self.send(SetPeers(num_prefill))

    def drain_reports(self) -> None:
        """Delivers what it had sent before its end."""
        self._channel.drain()

    def close(self) -> None:
        """Lets go of it."""
        self._channel.close()
