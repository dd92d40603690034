"""The refusal of a request that would wait too long."""

from typing import Literal

from artesian.engine.base import QueueFullError

RefusalReason = Literal["queue_full", "key_queue_full", "ttft_slo"]
"""No place in the queue; none for this API key; too late for the limit of time to first token."""


class OverloadError(QueueFullError):
    """There is more to do than can be done in time (HTTP 429).

    Attributes:
        retry_after_s: when it is expected to be otherwise.
    """

    def __init__(self, reason: RefusalReason, message: str, retry_after_s: int) -> None:
        super().__init__(f"{message}; try again in {retry_after_s} s")
        self.reason = reason
        self.retry_after_s = retry_after_s
