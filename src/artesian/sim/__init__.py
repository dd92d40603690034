"""A simulated server on a virtual clock, with the policies of the real one."""

from artesian.sim.conversations import Conversations, make_sessions
from artesian.sim.cost import GIB, PAPER_MODELS, CostModel
from artesian.sim.events import EventLoop
from artesian.sim.layout import BlockLayout, SessionLayout
from artesian.sim.outcome import Outcome
from artesian.sim.serving import Serving, Steps
from artesian.sim.tiers import Tiers, TierState

__all__ = [
    "GIB",
    "PAPER_MODELS",
    "BlockLayout",
    "Conversations",
    "CostModel",
    "EventLoop",
    "Outcome",
    "Serving",
    "SessionLayout",
    "Steps",
    "TierState",
    "Tiers",
    "make_sessions",
]
