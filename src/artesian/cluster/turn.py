"""One API call between its arrival and its last token, as the queue follows it."""

import asyncio
from collections.abc import Callable

from artesian.cluster.policies.fair_share import Waiting
from artesian.worker.stream import RequestStream


class Turn:
    """A call that waits or runs.

    Attributes:
        item: what the policy knows of it.
        released: done when it may go to a worker; its exception says why it may not.
        predicted_ttft_s: of its arrival; 0 if nothing could be predicted.
        sent_s, first_token_s: on the queue's clock; None: not yet.
        num_counted: sequences of it that the queue counts as running.
        prefill_tokens: that are expected to be computed until its first token.
    """

    def __init__(self, item: Waiting, on_progress: Callable[["Turn"], None]) -> None:
        self.item = item
        self.released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.predicted_ttft_s = 0.0
        self.prefill_tokens = 0.0
        self.expected_output_tokens = 0.0
        self.sent_s: float | None = None
        self.first_token_s: float | None = None
        self.ended = False
        self.num_counted = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self._streams: list[RequestStream] = []
        self._on_progress = on_progress

    @property
    def num_left(self) -> int:
        """Sequences that have not come to their end."""
        if not self._streams:
            return self.item.num_sequences
        return sum(stream.num_left for stream in self._streams)

    @property
    def is_whole(self) -> bool:
        """Whether all sequences came to their end, without an error."""
        return bool(self._streams) and all(
            stream.finished and stream.error is None for stream in self._streams
        )

    @property
    def is_prefilling(self) -> bool:
        """Whether a worker has it and a prompt of it is still computed."""
        if self.sent_s is None or self.ended:
            return False
        return not self._streams or any(
            not stream.num_output_tokens and not stream.finished for stream in self._streams
        )

    def follow(self, streams: list[RequestStream]) -> None:
        """From now on hears of the call's outputs, and at once of those that came already."""
        self._streams = streams
        for stream in streams:
            stream.on_progress = self._note
        self._note()

    def _note(self) -> None:
        self.output_tokens = sum(stream.num_output_tokens for stream in self._streams)
        self.cached_tokens = sum(stream.num_cached_tokens for stream in self._streams)
        self._on_progress(self)
