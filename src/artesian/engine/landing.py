"""A prompt on its way from a peer."""

from dataclasses import dataclass

from artesian.engine.handover import LandingTicket, PrefillDone, PrefillJob


@dataclass(slots=True)
class Landing:
    """A prompt on its way.

    Attributes:
        hits: blocks before it that this engine holds; blocks: where it lands.
        until_s: it is given up then.
        done: what became of it.
    """

    job: PrefillJob
    ticket: LandingTicket
    hits: list[int]
    blocks: list[int]
    until_s: float
    done: PrefillDone | None = None
