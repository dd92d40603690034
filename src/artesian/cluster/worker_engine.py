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

ENGINE_FACTORY = "artesian.cluster.worker_engine:create_engine"
_EVEN_RATIO = 1.0
"""Workers have equal shares of the machine: an executor that has nothing else to do reads as fast
as the engine that it reads for."""


def create_engine(config: EngineConfig) -> LLMEngine:
    """See `artesian.engine.factory.create_engine`."""
    return factory.create_engine(config, rules=PeerRules(ConditionalPlacement(), _offload(config)))


def _offload(config: EngineConfig) -> AdmittedOffload | None:
    """Which sequences stay with peers; None: none does."""
    if not config.offload:
        return None
    policy: OffloadAdmission = LoadAwareOffload()
    if config.offload_ratio is not None:
        policy = FixedOffload(config.offload_ratio)
    return AdmittedOffload(policy, OffloadLimits(ratio=_EVEN_RATIO))
