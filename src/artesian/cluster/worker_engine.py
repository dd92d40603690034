"""The engine of a cluster's worker: one that has peers, and policies for them."""

from artesian.cluster.placement import AdmittedOffload, ConditionalPlacement
from artesian.cluster.policies import (
    FixedOffload,
    LoadAwareOffload,
    OffloadAdmission,
    OffloadLimits,
)
from artesian.config.engine import EngineConfig
from artesian.engine import factory
from artesian.engine.engine import LLMEngine
from artesian.engine.peering import PeerRules
from artesian.loader import open_checkpoint
from artesian.ops.native import default_isa
from artesian.profile import OffloadPlan, identify, plan_offload, read_profile

ENGINE_FACTORY = "artesian.cluster.worker_engine:create_engine"
_EVEN_RATIO = 1.0
"""Workers have equal shares of the machine: an executor that has nothing else to do reads as fast
as the engine that it reads for."""


_LEAST_SHARE = 0.01
"""An executor that may take nothing would never answer those that ask it all the same."""


def create_engine(config: EngineConfig) -> LLMEngine:
    """See `artesian.engine.factory.create_engine`.

    Raises:
        OSError, ProfileError: `config.offload_profile` cannot be used.
    """
    return factory.create_engine(config, rules=peer_rules(config))


def peer_rules(config: EngineConfig) -> PeerRules:
    """The policies that `config` asks for. Raises as `create_engine`."""
    plan = _plan(config)
    if plan is None:
        return PeerRules(ConditionalPlacement(), _offload(config, OffloadLimits(ratio=_EVEN_RATIO)))
    share = max(plan.share, _LEAST_SHARE)
    return PeerRules(ConditionalPlacement(), _offload(config, plan.limits), share)


def _plan(config: EngineConfig) -> OffloadPlan | None:
    """What a profile of this worker allows; None without one."""
    if config.offload_profile is None or config.offload_ttft_ms is None:
        return None
    checkpoint = open_checkpoint(config.model)
    layout, _ = factory.plan_kv(checkpoint, config)
    identity = identify(config, checkpoint, layout.dtype, config.isa or default_isa())
    return plan_offload(
        read_profile(config.offload_profile, identity),
        ttft_s=config.offload_ttft_ms / 1e3,
        prompt_tokens=config.max_num_batched_tokens,
    )


def _offload(config: EngineConfig, limits: OffloadLimits) -> AdmittedOffload | None:
    """Which sequences stay with peers; None: none does."""
    if not config.offload:
        return None
    policy: OffloadAdmission = LoadAwareOffload()
    if config.offload_ratio is not None:
        policy = FixedOffload(config.offload_ratio)
    return AdmittedOffload(policy, limits)
