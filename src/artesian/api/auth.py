"""API keys: who may call, and whose cached blocks may be shared."""

import hashlib
import hmac

from fastapi import Request

from artesian.config.server import split_keys

CACHE_SALT_CONTEXT = b"artesian cache salt v1"


class ApiKeys:
    """The keys that open the server; none means that it is open."""

    def __init__(self, keys: str | None) -> None:
        self._keys = [key.encode() for key in split_keys(keys)]

    def __len__(self) -> int:
        """How many there are."""
        return len(self._keys)

    @property
    def required(self) -> bool:
        """Whether a key has to be sent."""
        return bool(self._keys)

    def find(self, authorization: bytes | None) -> bytes | None:
        """The key in an Authorization header, or None if it is not one of ours.

        Compares with every key in constant time, so that timing tells nothing about them.
        """
        scheme, _, token = (authorization or b"").partition(b" ")
        found = None
        for key in self._keys:
            if hmac.compare_digest(token.strip(), key) and scheme.lower() == b"bearer":
                found = key
        return found


def cache_salt(key: bytes | None) -> str:
    """The salt of a key's cached blocks: other keys cannot probe them by timing."""
    if key is None:
        return ""
    return hmac.new(key, CACHE_SALT_CONTEXT, hashlib.sha256).hexdigest()


def key_of(request: Request) -> str:
    """A name for a request's API key that tells nothing about the key."""
    return cache_salt(request.scope.get("api_key"))


def salt_of(request: Request, asked: str | None) -> str:
    """The salt of a request: what its body asks for, or else its key's."""
    return asked or cache_salt(request.scope.get("api_key"))
