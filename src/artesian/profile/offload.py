"""What a profile allows an attention executor, and those that offload to it."""

from dataclasses import dataclass

from artesian.cluster.policies import (
    AttentionCapacity,
    OffloadLimits,
    compute_bound,
    memory_bound,
)
from artesian.profile.base import Profile


@dataclass(frozen=True, slots=True)
class OffloadPlan:
    """Adrenaline's offline part (2503.20552): the least that prefills need, the rest for others.

    Attributes:
        share: of a core that an executor may have beside its prefill engine.
        limits: for each worker that decodes.
    """

    share: float
    limits: OffloadLimits


def plan_offload(
    profile: Profile,
    *,
    ttft_s: float,
    prompt_tokens: int,
    tpot_s: float | None = None,
    context_tokens: int = 1024,
    num_prefill: int = 1,
    num_decode: int = 1,
    kv_part: float = 0.5,
    sync_s: float = 0.0,
) -> OffloadPlan:
    """The plan for workers that are all like the profiled one.

    Args:
        ttft_s: prompts of `prompt_tokens` tokens are prefilled in that time; the executor gets what
            they do not need.
        tpot_s: target that bounds the batch by OB_comp; None: OB_mem alone bounds.
        context_tokens: of a sequence that decodes, on average.
        kv_part: of a prefill worker's KV memory, for sequences that others decode.
        sync_s: messages of a step.
    """
    share = profile.executor_share(ttft_s, prompt_tokens)
    rate = profile.executor_bytes_per_s(share) * num_prefill / num_decode
    decode_rate = profile.kv_bytes / profile.costs.kv_token_s
    kv_bytes = profile.capacity_tokens * profile.kv_bytes
    lent_bytes = kv_part * kv_bytes * num_prefill / num_decode
    ratio = memory_bound(
        [AttentionCapacity(lent_bytes, rate)], AttentionCapacity(kv_bytes, decode_rate)
    )
    if tpot_s is not None:
        costs = profile.costs
        slo_batch = costs.slo_batch(tpot_s, context_tokens)
        ratio = min(ratio, compute_bound(costs.rest_batch(tpot_s), slo_batch))
    limits = OffloadLimits(
        ratio=ratio,
        kv_bytes=profile.kv_bytes,
        executor_bytes_per_s=rate,
        decode_bytes_per_s=decode_rate,
        sync_s=sync_s,
    )
    return OffloadPlan(share, limits)
