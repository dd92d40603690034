"""What a cluster decides: who serves, who prefills, who changes role, what is offloaded."""

from artesian.cluster.policies.balanced_map import BalancedMap
from artesian.cluster.policies.base import (
    DecodeBatch,
    Disaggregation,
    OffloadAdmission,
    OffloadedSequence,
    OffloadLimits,
    PrefillDecodeMap,
    RequestView,
    Role,
    RoleBalancer,
    RoleChange,
    Router,
    WorkerLoad,
)
from artesian.cluster.policies.conditional import ConditionalDisaggregation
from artesian.cluster.policies.fixed_offload import FixedOffload
from artesian.cluster.policies.least_connections import LeastConnections
from artesian.cluster.policies.least_time import LeastPredictedTime
from artesian.cluster.policies.load_aware_offload import Combinator, LoadAwareOffload
from artesian.cluster.policies.offload_bound import (
    AttentionCapacity,
    compute_bound,
    memory_bound,
    offload_bound,
)
from artesian.cluster.policies.queue_balancer import QueueTimeBalancer
from artesian.cluster.policies.random_choice import RandomChoice
from artesian.cluster.policies.round_robin import RoundRobin
from artesian.cluster.policies.static_map import StaticMap, prefill_rank

__all__ = [
    "AttentionCapacity",
    "BalancedMap",
    "Combinator",
    "ConditionalDisaggregation",
    "DecodeBatch",
    "Disaggregation",
    "FixedOffload",
    "LeastConnections",
    "LeastPredictedTime",
    "LoadAwareOffload",
    "OffloadAdmission",
    "OffloadLimits",
    "OffloadedSequence",
    "PrefillDecodeMap",
    "QueueTimeBalancer",
    "RandomChoice",
    "RequestView",
    "Role",
    "RoleBalancer",
    "RoleChange",
    "RoundRobin",
    "Router",
    "StaticMap",
    "WorkerLoad",
    "compute_bound",
    "memory_bound",
    "offload_bound",
    "prefill_rank",
]
