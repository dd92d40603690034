"""What is kept about a session."""

import hashlib

import msgspec


class SessionKey(msgspec.Struct, frozen=True):
    """Names a session. Callers with another cache salt have sessions of their own.

    Attributes:
        tenant: from the cache salt, which cannot be worked out from it.
    """

    tenant: str
    session_id: str

    @classmethod
    def of(cls, cache_salt: str, session_id: str) -> "SessionKey":
        """The key of a session of requests with that salt."""
        return cls(tenant_of(cache_salt), session_id)

    @property
    def file_name(self) -> str:
        """Of its record: equal for all servers, and nothing that a caller chose."""
        return hashlib.sha256(f"{self.tenant}\0{self.session_id}".encode()).hexdigest()


class SessionRecord(msgspec.Struct, kw_only=True):
    """A session as it is kept.

    Attributes:
        names: of its KV blocks, in the order in which they were first used.
        num_tokens: of its longest prompt with the answer.
        created_s, used_s: Unix times.
        pinned: names of blocks that stay in the tiers, as far as their budgets allow, until
            `pinned_until_s`.
        is_deleted: its blocks are being taken away, here and on other servers.
    """

    key: SessionKey
    names: list[bytes]
    num_tokens: int
    created_s: float
    used_s: float
    pinned: list[bytes] = []
    pinned_until_s: float = 0.0
    is_deleted: bool = False


def tenant_of(cache_salt: str) -> str:
    """A name for all requests with that salt; "" for those without one."""
    if not cache_salt:
        return ""
    return hashlib.sha256(b"artesian tenant v1\0" + cache_salt.encode()).hexdigest()[:32]
