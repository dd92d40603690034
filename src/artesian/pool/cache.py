"""A cache that processes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from artesian.pool.base import Key
from artesian.pool.native import Cache as NativeCache

if TYPE_CHECKING:
    from artesian.pool.base import Bytes
    from artesian.pool.pool import Pool

ALGORITHMS = ("quick-demotion", "lru")
"""The eviction algorithms of a cache that is made without naming any."""


@dataclass(frozen=True, slots=True)
class Expert:
    """One eviction algorithm of a cache."""

    name: str
    weight: float
    """How far it is followed: the weights of all are 1 together."""
    num_evictions: int
    """Evictions by this client that it wanted; several may have wanted the same."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What this client did in a cache since it opened it, and how full the cache is."""

    num_hits: int
    num_misses: int
    num_puts: int
    num_deletes: int
    num_evictions: int
    num_regrets: int
    """Keys that came back soon after they had been evicted."""
    num_keys: int
    """Keys in the cache, as far as the clients have told."""
    used_bytes: int
    """Their objects' bytes, headers and padding included."""
    max_keys: int | None
    max_bytes: int | None
    experts: tuple[Expert, ...]

    @property
    def hit_ratio(self) -> float:
        """Part of the lookups that found their key; 0 before the first."""
        num_lookups = self.num_hits + self.num_misses
        return self.num_hits / num_lookups if num_lookups else 0.0


class Cache(NativeCache):
    """Keys and values of one namespace, of which those go that are least worth keeping.

    The processes that use it evict together, after Ditto: each looks at a few keys and takes the
    one that an eviction algorithm likes least. With several algorithms, it learns which of them to
    follow. Keys and values are those of a `HashStore`. Made by `Pool.cache`.

    Args:
        pool: the pool.
        namespace: name of the cache, 1 to 64 bytes.
        max_bytes: most bytes of objects, headers and padding included; 0 for no limit.
        max_keys: most keys; 0 for no limit. One of the two is needed.
        algorithms: names of the eviction algorithms.
        adaptive: whether it learns which one to follow; the first one until it knows.
        sample: slots that are looked at for one victim; about a third of them hold keys.
        history: evictions that are remembered, to learn from them; 0 for as many as keys.
        ttl: seconds after which a value is gone if its writer says nothing; as it was if None.
    """

    __slots__ = ("_pool", "namespace")
    _pool: Pool
    namespace: str

    def __new__(
        cls,
        pool: Pool,
        namespace: str,
        *,
        max_bytes: int = 0,
        max_keys: int = 0,
        algorithms: Sequence[str] = ALGORITHMS,
        adaptive: bool = True,
        sample: int = 96,
        history: int = 0,
        ttl: float | None = None,
    ) -> Cache:
        """Opens the cache, or makes it; one that exists stays as it was made."""
        self = super().__new__(
            cls,
            pool.handle,
            namespace,
            max_bytes=max_bytes,
            max_keys=max_keys,
            algorithms=list(algorithms),
            adaptive=adaptive,
            sample=sample,
            history=history,
            ttl=ttl,
        )
        self._pool = pool
        self.namespace = namespace
        return self

    @property
    def pool(self) -> Pool:
        """The pool that it belongs to."""
        return self._pool

    def get_or_put(self, key: Key, make: Callable[[], Bytes], *, ttl: float | None = None) -> Bytes:
        """The value of `key`; if it has none, what `make` returns, which is put.

        Several processes that miss the key at the same time all call `make`.
        """
        found = self.get(key)
        if found is not None:
            return found
        value = make()
        self.put(key, value, ttl=ttl)
        return value

    def stats(self) -> CacheStats:
        """What this client did in the cache, and how full it is."""
        counts: dict[str, Any] = self.counts()
        experts = tuple(Expert(**expert) for expert in counts.pop("experts"))
        return CacheStats(**counts, experts=experts)

    def __repr__(self) -> str:
        return f"Cache({self.namespace!r} of {self._pool.address})"
