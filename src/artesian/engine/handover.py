"""Prefill for another worker: what the workers say to each other, by way of the front.

A worker that decodes asks for a prompt to be computed elsewhere. Its peer computes all tokens but
the last one and writes their KV where the ticket says (or keeps it, and serves attention over it).
The asking worker then runs the last token itself, so that sampling happens in one place.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from artesian.kvcache.base import LandingError as LandingError


class LandingTicket(msgspec.Struct, frozen=True, kw_only=True):
    """Where a peer may write KV, until the owner revokes it.

    Attributes:
        region: name of the owner's shared memory.
        slot: number of the landing's control words in it.
        generation: of the slot; writes under another one are refused.
        first_block: the prompt's block, counted from 0, that goes to `blocks[0]`; those before it
            are not wanted.
        blocks: blocks of the owner's arena, for consecutive blocks of the prompt.
    """

    region: str
    slot: int
    generation: int
    first_block: int
    blocks: list[int]


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """KV that stays with a peer, which serves attention over it while the lease is renewed.

    Attributes:
        region: shared memory of the peer's executor.
        slot, generation: of the sequence there.
        num_tokens: of which it has the KV.
        max_tokens: that it has room for.
    """

    region: str
    slot: int
    generation: int
    num_tokens: int
    max_tokens: int


class PrefillJob(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt to compute, all but its last token.

    Attributes:
        job_id: unique among all workers.
        request_id: the request that it is for.
        token_ids: the whole prompt.
        priority, timeout_s, cache_salt, session_id: of the request.
        landing: where the KV goes; None: it stays with the peer (see `PrefillDone.placement`).
        max_tokens: prompt and output at most, if the KV stays.
        near: memory of a peer that has most of it, as a hint.
    """

    job_id: str
    request_id: str
    token_ids: list[int]
    priority: int = 0
    timeout_s: float | None = None
    cache_salt: str = ""
    session_id: str = ""
    landing: LandingTicket | None = None
    max_tokens: int = 0
    near: str = ""


PrefillOutcome = Literal["done", "cancelled", "revoked", "refused", "failed"]
"""`revoked`: the landing is not the peer's any more; `refused`: it has no room, or cannot reach the
region; `failed`: a defect, a deadline, or the peer's death, which the front tells of."""


class PrefillDone(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job.

    Attributes:
        num_cached_tokens: that the peer had not to compute.
        queue_ms, prefill_ms: of the peer.
        num_bytes: written to the landing.
        error: for people, unless it is done.
    """

    job_id: str
    outcome: PrefillOutcome
    num_cached_tokens: int = 0
    queue_ms: float = 0.0
    prefill_ms: float = 0.0
    num_bytes: int = 0
    placement: Placement | None = None
    error: str = ""


class Unwanted(NamedTuple):
    """A job that is not wanted any more.

    Attributes:
        token_ids: prompt and answer, if the KV has stayed with the peer: it can name its blocks.
    """

    job_id: str
    token_ids: list[int]


class Handover(Protocol):
    """Both sides of hand-overs in one engine, whose thread owns it too."""

    def add_job(self, job: PrefillJob) -> None:
        """Queues a peer's prompt; `take_done` tells what became of it, whatever it is."""

    def cancel_job(self, job_id: str, token_ids: Sequence[int] = ()) -> None:
        """The peer does not want it any more; unknown ids are ignored (it may just have ended).
        `token_ids`: see `Unwanted`."""

    def take_done(self) -> list[PrefillDone]:
        """Jobs for peers that have ended since the last call."""

    def take_wanted(self) -> list[PrefillJob]:
        """Jobs that peers should do, since the last call."""

    def take_unwanted(self) -> list[Unwanted]:
        """Such jobs that are not wanted any more, since the last call."""

    def end_job(self, done: PrefillDone) -> None:
        """What became of a job that a peer should do; unknown ids are ignored."""

    def set_peers(self, num_prefill: int) -> None:
        """So many peers would compute prompts for this engine now; 0, as it is at first: it asks
        for none."""

    def end_peer(self, region: str) -> None:
        """The process whose memory had this name is dead for certain: it writes nowhere any
        more."""


class LandingPad(Protocol):
    """The memory of this engine that peers write to."""

    @property
    def name(self) -> str:
        """By which they find it."""

    def open(self) -> tuple[int, int] | None:
        """A slot and its generation; None when all are in use."""

    def revoke(self, slot: int) -> bool:
        """Lets nobody write any more. Whether that is so already: a writer that is just writing has
        to see it first, or to die."""

    def is_quiet(self, slot: int) -> bool:
        """Whether nobody writes there any more."""

    def is_complete(self, slot: int) -> bool:
        """Whether its writer has written all, and said so."""

    def release(self, slot: int) -> None:
        """Gives a slot back that is complete or quiet."""


class LandingWriter(Protocol):
    """Writes a prompt's KV into a peer's memory, while its landing is open."""

    @property
    def num_bytes(self) -> int:
        """Written so far."""

    @property
    def is_open(self) -> bool:
        """Whether the peer still wants it."""

    def push_blocks(self, blocks: list[int], first: int) -> None:
        """Writes whole blocks of this engine's arena: the prompt's `first` and those behind it.
        What the ticket does not ask for is left out."""

    def complete(self) -> None:
        """All is written."""

    def close(self) -> None:
        """Nothing more is written."""
