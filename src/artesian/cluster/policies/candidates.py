"""Which workers may be chosen, and who is preferred among equals."""

import hashlib
from collections.abc import Sequence

from artesian.cluster.policies.base import WorkerLoad


def decoders(workers: Sequence[WorkerLoad]) -> list[WorkerLoad]:
    """Available workers that decode; if there are none, those that could."""
    available = [load for load in workers if load.is_available]
    return [load for load in available if load.role != "prefill"] or available


def prefillers(workers: Sequence[WorkerLoad], but: str = "") -> list[WorkerLoad]:
    """Available workers of role `prefill`, without the one of that id."""
    return [w for w in workers if w.is_available and w.role == "prefill" and w.worker_id != but]


def affinity(key: str, worker_id: str) -> bytes:
    """Rendezvous hashing: among any workers, a key prefers the one with the greatest value.

    So every front says the same, nobody remembers anything, and when a worker leaves only its own
    keys move.
    """
    return hashlib.blake2b(f"{key}\0{worker_id}".encode(), digest_size=8).digest()
