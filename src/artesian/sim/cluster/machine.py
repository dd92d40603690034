"""A worker's machine as the simulator sees it."""

from collections.abc import Callable
from dataclasses import dataclass

from artesian.profile import Profile, StepCosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A model on a machine.

    Attributes:
        costs: of steps.
        kv_bytes: of a token; capacity_tokens: of KV that there is room for.
        max_seqs: that decode at once.
        prompt_tokens: of a step at most; mixed_tokens: the same while others decode.
        link_bytes_per_s: at which KV is handed over, while it is computed; handover_s: what comes
            on top for each prompt.
        executor_bytes_per_s: at which an executor reads KV, by its share of the machine.
        slowdown: of prefills beside it, by its share.
        sync_s: all messages of a step with offloaded rows: they go while local attention runs.
        offload_s: of such a step, that nothing hides.
    """

    name: str
    costs: StepCosts
    kv_bytes: float
    capacity_tokens: int
    max_seqs: int = 64
    prompt_tokens: int = 1024
    mixed_tokens: int = 256
    link_bytes_per_s: float = 1e9
    handover_s: float = 0.0
    executor_bytes_per_s: Callable[[float], float]
    slowdown: Callable[[float], float]
    sync_s: float = 0.0
    offload_s: float = 0.0

    @property
    def decode_bytes_per_s(self) -> float:
        """At which attention reads KV when it has the machine to itself."""
        return self.kv_bytes / self.costs.kv_token_s


SYNC_S = 0.5e-3
OFFLOAD_S = 0.5e-3
"""Of a step with offloaded rows on CPUs: `artesian profile` does not measure them (ours)."""


def machine_of(profile: Profile, sync_s: float = SYNC_S, offload_s: float = OFFLOAD_S) -> Machine:
    """The machine that was profiled."""
    return Machine(
        name=f"{profile.identity.model} on {profile.identity.num_threads} threads of "
        f"{profile.identity.cpu}",
        costs=profile.costs,
        kv_bytes=profile.kv_bytes,
        capacity_tokens=profile.capacity_tokens,
        link_bytes_per_s=1 / profile.handover_byte_s if profile.handover_byte_s else 1e12,
        executor_bytes_per_s=profile.executor_bytes_per_s,
        slowdown=profile.slowdown,
        sync_s=sync_s,
        offload_s=offload_s,
    )
