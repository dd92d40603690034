"""Sessions of a running engine: what they use is noted, and what is to go goes everywhere."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from artesian.context.cache import ContextCache
from artesian.context.sessions.book import SessionBook
from artesian.context.sessions.record import SessionKey, SessionRecord
from artesian.context.sessions.records import SessionRecords
from artesian.kvcache.prefix_cache import PrefixCache

_MOST_SESSIONS = 100_000
_EXPIRE_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class SessionPlaces:
    """Where the blocks of a session are.

    Attributes:
        num_in_memory: in the engine's own memory.
        num_in_tier: tier -> how many it has; a block may be in several places.
        num_pinned_in_tier: tier -> how many of these stay there.
    """

    record: SessionRecord
    num_in_memory: int
    num_in_tier: dict[str, int]
    num_pinned_in_tier: dict[str, int]


class SessionKeeper:
    """The engine's thread owns it. Without a `context` sessions live as long as the engine."""

    def __init__(
        self,
        prefix_cache: PrefixCache,
        context: ContextCache | None = None,
        records: SessionRecords | None = None,
        ttl_s: float | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`ttl_s`: sessions that were not used for so long are deleted; None keeps them."""
        self._prefix_cache = prefix_cache
        self._context = context
        self._records = records
        self._ttl_s = ttl_s
        self._clock = wall_clock
        self._book = SessionBook(_MOST_SESSIONS)
        self._going: dict[SessionKey, list[bytes]] = {}
        self._next_look_s = 0.0
        self._learn()

    @property
    def is_busy(self) -> bool:
        """Whether blocks of deleted sessions are still somewhere."""
        return bool(self._going)

    def note(self, key: SessionKey, names: Sequence[bytes], num_tokens: int) -> None:
        """A request of the session has ended, whose blocks have these names, first one first."""
        record = self._book.note(key, names, num_tokens, self._clock())
        excess = self._book.take_excess()
        if self._records is not None:
            self._records.put(record)
            for forgotten in excess:
                self._records.remove(forgotten)

    def pin(self, key: SessionKey, names: Sequence[bytes], seconds: float) -> None:
        """Blocks of a session stay in the tiers for so long, as far as the budgets for that allow.

        Those that are still being saved stay as soon as they are there.
        """
        now = self._clock()
        record = self._book.note(key, names, 0, now)
        known = set(record.pinned)
        record.pinned.extend(name for name in names if name not in known)
        record.pinned_until_s = max(record.pinned_until_s, now + seconds)
        if self._records is not None:
            self._records.put(record)
        self._pin(record)

    def unpin(self, key: SessionKey) -> None:
        """Blocks of the session go like all others."""
        record = self._book.get(key)
        if record is None or not record.pinned:
            return
        if self._context is not None:
            self._context.unpin(record.pinned)
        record.pinned, record.pinned_until_s, record.used_s = [], 0.0, self._clock()
        if self._records is not None:
            self._records.put(record)

    def sessions(self, tenant: str, limit: int) -> list[SessionPlaces]:
        """A tenant's sessions, `limit` at most, the one used last first."""
        return [self._places(record) for record in self._book.of_tenant(tenant)[:limit]]

    def find(self, key: SessionKey) -> SessionPlaces | None:
        """The session and where its blocks are; None when there is no such session."""
        record = self._book.get(key)
        return None if record is None else self._places(record)

    def is_going(self, key: SessionKey) -> bool:
        """Whether blocks of a session that was deleted are still somewhere."""
        return key in self._going

    def delete(self, key: SessionKey) -> int:
        """Begins to take a session's blocks away, wherever they are; returns how many.

        Those that another session needs as well stay. From now on nobody finds the others.
        """
        record = self._book.get(key)
        if record is None:
            return 0
        names = self._book.remove(key)
        # One of that name may be on its way out already.
        self._going[key] = [*self._going.get(key, ()), *names]
        if self._context is not None:
            self._context.discard(names)
        if self._records is not None:  # for the other servers; also if this one ends now
            gone = SessionRecord(
                key=key,
                names=names,
                num_tokens=0,
                created_s=record.created_s,
                used_s=self._clock(),
                is_deleted=True,
            )
            self._records.put(gone)
        self._clear(key)
        return len(names)

    def poll(self) -> None:
        """Goes on with deletions; learns what other servers have noted; looks at the clock."""
        for key in list(self._going):
            self._clear(key)
        now = self._clock()
        if now < self._next_look_s:
            return
        self._next_look_s = now + _EXPIRE_EVERY_S
        self._learn()
        for record in self._book.pinned(now):
            self._pin(record)
        if self._ttl_s is not None:
            for key in self._book.expired(now - self._ttl_s):
                self.delete(key)

    def close(self, timeout_s: float) -> None:
        """Writes what is still to be written, but no longer than that."""
        if self._records is not None:
            self._records.close(timeout_s)

    def _pin(self, record: SessionRecord) -> None:
        if self._context is not None:
            self._context.pin(record.pinned, record.pinned_until_s - self._clock())

    def _learn(self) -> None:
        if self._records is None:
            return
        for record in self._records.poll():
            if not record.is_deleted:
                self._book.learn(record)
            elif record.key not in self._going:
                self._follow(record)

    def _follow(self, record: SessionRecord) -> None:
        """Another server, or this one before it ended, deletes the session."""
        self._book.remove(record.key)
        self._going[record.key] = record.names
        if self._context is not None:
            self._context.discard(record.names)

    def _clear(self, key: SessionKey) -> None:
        names = self._going[key]
        is_in_memory = self._prefix_cache.drop(names) > 0
        is_in_tier = self._context is not None and self._context.is_discarding(names)
        if not is_in_memory and not is_in_tier:
            del self._going[key]
            if self._records is not None:
                self._records.retire(key)

    def _places(self, record: SessionRecord) -> SessionPlaces:
        in_memory = sum(name in self._prefix_cache for name in record.names)
        in_tier = {} if self._context is None else self._context.count(record.names)
        pinned = {} if self._context is None else self._context.count_pinned(record.pinned)
        return SessionPlaces(record, in_memory, in_tier, pinned)
