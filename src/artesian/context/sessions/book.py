"""Which blocks belong to which sessions. A policy: no I/O, no clock."""

from collections import Counter, OrderedDict
from collections.abc import Sequence

from artesian.context.sessions.record import SessionKey, SessionRecord


class SessionBook:
    """Sessions by last use, and how many of them need each block.

    Args:
        most_sessions: the one that was used longest ago is forgotten when there are more; its
            blocks stay, as those of requests without a session do.
    """

    def __init__(self, most_sessions: int) -> None:
        self._most_sessions = most_sessions
        self._records: OrderedDict[SessionKey, SessionRecord] = OrderedDict()
        self._num_users: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: SessionKey) -> SessionRecord | None:
        """The session, if it is known."""
        return self._records.get(key)

    def of_tenant(self, tenant: str) -> list[SessionRecord]:
        """The sessions of a tenant, the one used last first."""
        records = reversed(self._records.values())
        return [record for record in records if record.key.tenant == tenant]

    def note(
        self, key: SessionKey, names: Sequence[bytes], num_tokens: int, now_s: float
    ) -> SessionRecord:
        """A request of the session has used these blocks, first one first."""
        record = self._records.get(key)
        if record is None:
            record = SessionRecord(key=key, names=[], num_tokens=0, created_s=now_s, used_s=now_s)
            self._records[key] = record
        known = set(record.names)
        new = [name for name in dict.fromkeys(names) if name not in known]
        record.names.extend(new)
        self._num_users.update(new)
        record.num_tokens = max(record.num_tokens, num_tokens)
        record.used_s = max(record.used_s, now_s)
        self._records.move_to_end(key)
        return record

    def learn(self, record: SessionRecord) -> None:
        """Takes over what another server, or an earlier one, has noted."""
        merged = self.note(record.key, record.names, record.num_tokens, record.used_s)
        merged.created_s = min(merged.created_s, record.created_s)
        if record.pinned_until_s != merged.pinned_until_s and record.used_s >= merged.used_s:
            merged.pinned, merged.pinned_until_s = record.pinned, record.pinned_until_s

    def pinned(self, now_s: float) -> list[SessionRecord]:
        """Sessions with blocks that are to stay."""
        return [record for record in self._records.values() if record.pinned_until_s > now_s]

    def take_excess(self) -> list[SessionKey]:
        """Forgets sessions beyond the most that are kept; returns them."""
        excess = []
        while len(self._records) > self._most_sessions:
            key = next(iter(self._records))
            self.remove(key)
            excess.append(key)
        return excess

    def expired(self, before_s: float) -> list[SessionKey]:
        """Sessions that nobody has used since then, and that are not pinned until later."""
        return [
            key
            for key, record in self._records.items()
            if max(record.used_s, record.pinned_until_s) < before_s
        ]

    def remove(self, key: SessionKey) -> list[bytes]:
        """Forgets a session; returns the blocks that no other session needs, last ones first."""
        record = self._records.pop(key, None)
        if record is None:
            return []
        alone = []
        for name in reversed(record.names):
            self._num_users[name] -= 1
            if self._num_users[name] == 0:
                del self._num_users[name]
                alone.append(name)
        return alone
