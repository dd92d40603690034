"""What decides which blocks of a tier stay: the policies that are in force, put together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from artesian.context.policies import (
    EvictionPolicy,
    Expiry,
    LeafFirstLru,
    Pins,
    QueueAware,
    RegretChooser,
    TenantQuotas,
)

EvictionName = Literal["adaptive", "leaf-first-lru", "queue-aware"]


def _adaptive() -> EvictionPolicy:
    return RegretChooser([QueueAware(), LeafFirstLru()])


_POLICIES: dict[EvictionName, Callable[[], EvictionPolicy]] = {
    "adaptive": _adaptive,
    "leaf-first-lru": LeafFirstLru,
    "queue-aware": QueueAware,
}


@dataclass(frozen=True, slots=True)
class Retention:
    """How tiers are kept.

    Attributes:
        eviction: what goes first of one tenant's blocks; "adaptive" follows whichever of the two
            others has the less regret.
        ttl_s: blocks that nobody used for so long go, room or not; None keeps them.
        pin_share: of a tier's capacity, at most, may be pinned.
    """

    eviction: EvictionName = "adaptive"
    ttl_s: float | None = None
    pin_share: float = 0.25

    def policy(self, capacity_bytes: int) -> Pins:
        """The policy of one tier: pins stay, old blocks go, and tenants share what is left."""
        policy: EvictionPolicy = TenantQuotas(_POLICIES[self.eviction])
        if self.ttl_s is not None:
            policy = Expiry(policy, self.ttl_s)
        return Pins(policy, int(self.pin_share * capacity_bytes))
