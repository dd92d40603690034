"""When a client that was refused should come again."""

import math
import zlib

MIN_RETRY_S = 1
MAX_RETRY_S = 120
SPREAD = 0.5
# What left longer ago than this hardly counts for the present rate.
MEMORY_S = 20.0


def retry_after_s(wait_s: float, call_id: str) -> int:
    """Whole seconds for `Retry-After`: the wait and up to half as much again.

    The addition depends on the call alone, so that clients that were refused together come back
    one after the other; bounded from both sides.
    """
    jitter = 1 + SPREAD * zlib.crc32(call_id.encode()) / 2**32
    return max(MIN_RETRY_S, math.ceil(min(MAX_RETRY_S, wait_s * jitter)))


class DrainRate:
    """How many sequences per second have ended lately, while there were any."""

    def __init__(self) -> None:
        self._ended = 0.0
        self._seconds = 0.0
        self._since: float | None = None

    def advance(self, now_s: float, num_ended: int, *, is_busy: bool) -> None:
        """Notes what has ended at `now_s`, and whether any run from now on."""
        if self._since is not None and now_s > self._since:
            passed_s = now_s - self._since
            fading = math.exp(-passed_s / MEMORY_S)
            self._ended *= fading
            self._seconds = self._seconds * fading + passed_s
        self._since = now_s if is_busy else None
        self._ended += num_ended

    def wait_s(self, num_sequences: int) -> float | None:
        """How long so many take to end; None while nothing has ended yet."""
        if self._ended <= 0 or self._seconds <= 0:
            return None
        return num_sequences * self._seconds / self._ended
