"""Sessions: names that callers give to conversations, so that they can be looked at and deleted."""

from artesian.context.sessions.book import SessionBook
from artesian.context.sessions.keeper import SessionKeeper
from artesian.context.sessions.record import SessionKey, SessionRecord
from artesian.context.sessions.records import SessionRecords

__all__ = ["SessionBook", "SessionKeeper", "SessionKey", "SessionRecord", "SessionRecords"]
