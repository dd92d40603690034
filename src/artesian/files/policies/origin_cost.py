"""What a request to the origin costs: a time to the first byte and a bandwidth."""

_MEMORY = 1 / 64
_FIRST_S = 0.03
_BYTES_PER_S = 100e6
_FEWEST = 8
_FORGETS = 1.001


class OriginCost:
    """Least squares over the latest requests; before there are some, 30 ms and 100 MB/s.

    Attributes:
        first_s: seconds to the first byte; bytes_per_s: from then on.
        least_s: what a request takes if nobody else is in its way: the least lately.
    """

    def __init__(self) -> None:
        self.first_s = _FIRST_S
        self.bytes_per_s = _BYTES_PER_S
        self.least_s = _FIRST_S
        self._most_bytes_per_s = 0.0
        self._num = 0
        self._mean = [0.0, 0.0]
        self._xx = 0.0
        self._xy = 0.0

    def learn(self, num_bytes: int, took_s: float) -> None:
        """A request took so long."""
        self._num += 1
        if self._num == 1:
            self.least_s = took_s
        self.least_s = min(self.least_s * _FORGETS, took_s)
        rate = num_bytes / max(took_s, 1e-6)
        self._most_bytes_per_s = max(self._most_bytes_per_s / _FORGETS, rate)
        part = max(_MEMORY, 1 / self._num)
        dx, dy = num_bytes - self._mean[0], took_s - self._mean[1]
        self._mean[0] += part * dx
        self._mean[1] += part * dy
        self._xx += part * ((1 - part) * dx * dx - self._xx)
        self._xy += part * ((1 - part) * dx * dy - self._xy)
        if self._num < _FEWEST:
            return
        # If all are of one size, nothing tells the two apart: half each.
        is_spread = self._xx > (0.1 * self._mean[0]) ** 2 and self._xy > 0
        if is_spread:
            per_byte = self._xy / self._xx
            self.first_s = max(self._mean[1] - per_byte * self._mean[0], 1e-4)
        else:
            self.first_s = max(self._mean[1] / 2, 1e-4)
            per_byte = self._mean[1] / 2 / max(self._mean[0], 1)
        self.bytes_per_s = 1 / max(per_byte, 1e-12)

    @property
    def flight_bytes(self) -> float:
        """What may be on its way to a reader without waiting for itself: twice what the origin
        gives in the time of a request. Queues of others make requests longer, not this larger."""
        return 2 * self.least_s * (self._most_bytes_per_s or _BYTES_PER_S)

    def cost_s(self, num_bytes: float) -> float:
        """Seconds that a request for so many bytes is likely to take."""
        return self.first_s + num_bytes / self.bytes_per_s
