"""Workers with roles on a virtual clock, under the policies of the real ones."""

from artesian.sim.cluster.accelerators import (
    ACCELERATORS,
    MODELS,
    Accelerator,
    Model,
    Roofline,
    machine_by_roofline,
)
from artesian.sim.cluster.calls import Call
from artesian.sim.cluster.cluster import Cluster, Policies
from artesian.sim.cluster.lengths import fixed_lengths, openthoughts_like, sharegpt_like
from artesian.sim.cluster.machine import Machine, machine_of
from artesian.sim.cluster.report import Report, Targets

__all__ = [
    "ACCELERATORS",
    "MODELS",
    "Accelerator",
    "Call",
    "Cluster",
    "Machine",
    "Model",
    "Policies",
    "Report",
    "Roofline",
    "Targets",
    "fixed_lengths",
    "machine_by_roofline",
    "machine_of",
    "openthoughts_like",
    "sharegpt_like",
]
