"""An advisor that several threads ask."""

import threading
import time
from collections.abc import Iterable, Sequence

from artesian.files.base import Access, Advisor, Block, Explanation, Prefetch, Unit


class Advice:
    """Lets one thread at a time to the advisor, and gives it the time."""

    def __init__(self, advisor: Advisor) -> None:
        self._advisor = advisor
        self._lock = threading.Lock()

    def access(self, access: Access, *, is_ours: bool = True) -> Sequence[Prefetch]:
        """See `Advisor.access`."""
        with self._lock:
            return self._advisor.access(access, is_ours=is_ours)

    def admit(self, block: Block, num_bytes: int, *, is_prefetch: bool = False) -> bool:
        """See `Advisor.admit`."""
        with self._lock:
            return self._advisor.admit(block, num_bytes, time.time(), is_prefetch=is_prefetch)

    def stored(self, block: Block, num_bytes: int, *, is_ours: bool = True) -> None:
        """See `Advisor.stored`."""
        with self._lock:
            self._advisor.stored(block, num_bytes, time.time(), is_ours=is_ours)

    def removed(self, blocks: Iterable[Block]) -> None:
        """See `Advisor.removed`."""
        now_s = time.time()
        with self._lock:
            for block in blocks:
                self._advisor.removed(block, now_s)

    def victims(self, num_bytes: int) -> Iterable[Block]:
        """See `Advisor.victims`; each step of it has the lock."""
        with self._lock:
            victims = self._advisor.victims(num_bytes, time.time())
        while True:
            with self._lock:
                block = next(victims, None)
            if block is None:
                return
            yield block

    def expired(self) -> Sequence[Block]:
        """See `Advisor.expired`."""
        with self._lock:
            return self._advisor.expired(time.time())

    def fetched(self, path: str, num_bytes: int, took_s: float) -> None:
        """See `Advisor.fetched`."""
        with self._lock:
            self._advisor.fetched(path, num_bytes, took_s)

    def listed(self, folder: str, names: Sequence[str]) -> None:
        """See `Advisor.listed`."""
        with self._lock:
            self._advisor.listed(folder, names)

    def resize(self, capacity_bytes: int) -> None:
        """See `Advisor.resize`."""
        with self._lock:
            self._advisor.resize(capacity_bytes)

    def units(self) -> Sequence[Unit]:
        """See `Advisor.units`."""
        with self._lock:
            return self._advisor.units(time.time())

    def explain(self, path: str) -> Explanation:
        """See `Advisor.explain`."""
        with self._lock:
            return self._advisor.explain(path, time.time())

    def save(self) -> bytes:
        """See `Advisor.save`."""
        with self._lock:
            return self._advisor.save()

    def load(self, saved: bytes) -> None:
        """See `Advisor.load`."""
        with self._lock:
            self._advisor.load(saved)
