"""A connection to the executor of another worker."""

from artesian import _core
from artesian.engine.offload.base import OffloadError, RemoteStats


class RemoteExecutor:
    """A `RemotePeer`: the executor in another worker's region."""

    def __init__(self, native: _core.RemoteAttention) -> None:
        self._native = native

    @property
    def native(self) -> _core.RemoteAttention:
        """What the kernels know it by."""
        return self._native

    @property
    def is_broken(self) -> bool:
        """Whether a step failed since it was connected."""
        return self._native.is_broken

    @property
    def is_alive(self) -> bool:
        """Whether the executor, as far as can be seen, still serves."""
        return self._native.is_alive

    @property
    def max_rows(self) -> int:
        """Sequences of a step at most."""
        return self._native.max_rows

    def reconnect(self, timeout_s: float) -> None:
        """Connects again, to the same executor. Raises `OffloadError`."""
        try:
            self._native.reconnect(timeout_s)
        except (RuntimeError, OSError, ValueError) as error:
            raise OffloadError(f"cannot connect with the executor again: {error}") from None

    def stats(self) -> RemoteStats:
        """What it has done so far."""
        return RemoteStats(**self._native.stats())
