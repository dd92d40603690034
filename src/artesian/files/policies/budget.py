"""How much may be fetched before it is asked for."""

_MOST_KNOWN = 4096
_MEMORY = 1 / 32
_PATIENCE_S = 120.0
_FEWEST_BYTES_SHARE = 1 / 64


class PrefetchBudget:
    """Bytes of one unit that were fetched ahead and not wanted yet are bounded.

    The bound halves when less than half of the latest that came to an end were wanted, and doubles
    again when most are.

    Attributes:
        precision: part of the latest that were wanted, 1 at the beginning.
    """

    def __init__(self, most_bytes: int) -> None:
        self.precision = 1.0
        self._most_bytes = most_bytes
        self._part = 1.0
        self._since = 0
        self._open_bytes = 0.0
        self._open: dict[object, tuple[int, float]] = {}

    @property
    def left_bytes(self) -> float:
        """What may still be fetched now."""
        return self._most_bytes * self._part - self._open_bytes

    def resize(self, most_bytes: int) -> None:
        """The bound while all goes well."""
        self._most_bytes = most_bytes

    def ask(self, block: object, num_bytes: int, now_s: float) -> bool:
        """Whether a block may be fetched; then it is. Those that never came are forgotten."""
        while self._open:
            oldest = next(iter(self._open))
            if now_s - self._open[oldest][1] <= _PATIENCE_S:
                break
            self._open_bytes -= self._open.pop(oldest)[0]
        if block in self._open:
            return False
        if num_bytes > self.left_bytes or len(self._open) >= _MOST_KNOWN:
            return False
        self._open[block] = (num_bytes, now_s)
        self._open_bytes += num_bytes
        return True

    def used(self, block: object) -> None:
        """A block is wanted; nothing if it was not fetched ahead."""
        self._close(block, 1.0)

    def wasted(self, block: object) -> None:
        """A block went; a waste if it was fetched ahead and never wanted."""
        self._close(block, 0.0)

    def _close(self, block: object, outcome: float) -> None:
        found = self._open.pop(block, None)
        if found is None:
            return
        self._open_bytes -= found[0]
        self.precision += _MEMORY * (outcome - self.precision)
        self._since += 1
        if self._since * _MEMORY < 1:
            return
        self._since = 0
        if self.precision < 0.5:
            self._part = max(self._part / 2, _FEWEST_BYTES_SHARE)
        elif self.precision > 0.75:
            self._part = min(self._part * 2, 1.0)
