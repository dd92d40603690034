"""A simulated server on a virtual clock, with the policies of the real one."""

from artesian.sim.conversations import Conversations, make_sessions
from artesian.sim.cost import GIB, PAPER_MODELS, CostModel
from artesian.sim.events import EventLoop
from artesian.sim.layout import BlockLayout, SessionLayout
from artesian.sim.offline import furthest_next_use
from artesian.sim.outcome import Outcome
from artesian.sim.serving import Serving, Step
from artesian.sim.tiers import Tiers, TierState
from artesian.sim.traces import Recorded, TraceError, agents, mooncake

__all__ = [
    "GIB",
    "PAPER_MODELS",
    "BlockLayout",
    "Conversations",
    "CostModel",
    "EventLoop",
    "Outcome",
    "Recorded",
    "Serving",
    "SessionLayout",
    "Step",
    "TierState",
    "Tiers",
    "TraceError",
    "agents",
    "furthest_next_use",
    "make_sessions",
    "mooncake",
]
