"""A prompt on its way from a peer."""

from dataclasses import dataclass

from artesian.engine.handover import LandingTicket, PrefillDone, PrefillJob
from artesian.engine.offload import RemoteName, RemotePeer


@dataclass(slots=True)
class RemotePlace:
    """A sequence whose KV has stayed with the peer that computed its prompt.

    Attributes:
        job_id: of the peer's job; region: its memory.
        name: of the sequence there.
        is_lost: the peer has failed to attend for it.
    """

    job_id: str
    region: str
    peer: RemotePeer
    name: RemoteName
    is_lost: bool = False


@dataclass(slots=True)
class Landing:
    """A prompt on its way.

    Attributes:
        ticket: where it lands; None: it stays with the peer.
        hits: blocks before it that this engine holds; blocks: where it lands.
        until_s: it is given up then.
        done: what became of it; place: where it has stayed.
    """

    job: PrefillJob
    ticket: LandingTicket | None
    hits: list[int]
    blocks: list[int]
    until_s: float
    done: PrefillDone | None = None
    place: RemotePlace | None = None
