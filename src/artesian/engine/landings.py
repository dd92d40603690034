"""Prompts that a peer computes for this engine: the side that decodes.

The KV may also stay with the peer, whose executor then attends for the sequence (Adrenaline): it
takes no blocks here.

A sequence whose prompt should be computed elsewhere gets its blocks at once, and a landing where
the peer may write them. It waits; when the peer is done its blocks are named and it starts as if
they had been cached, with the last token to compute. Whatever goes wrong, it is computed here.

Blocks go back to the arena only when nobody can write to them any more: when the landing was
revoked between two writes, when its writer has said that it stops, or when it is dead.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from artesian.engine.handover import (
    LandingPad,
    LandingTicket,
    Placement,
    PrefillDone,
    PrefillJob,
    PrefillOutcome,
    Unwanted,
)
from artesian.engine.landing import Landing, RemotePlace
from artesian.engine.offload import OffloadError, RemoteName, RemotePeer
from artesian.engine.sequence import Sequence
from artesian.kvcache.prefix_cache import PrefixCache

Place = Literal["here", "wait", "away"]
"""Where a prompt is computed: here; not yet; by a peer."""

_CONNECT_S = 0.5
_MOST_LANDINGS = 2
"""A prompt that failed so often elsewhere is computed here."""


class PrefillPlacement(Protocol):
    """Policy: which prompts are computed elsewhere, and how long they are waited for."""

    def is_away(self, num_cached: int, num_new: int, num_running: int) -> bool:
        """Whether a peer should compute `num_new` tokens behind `num_cached` while so many
        sequences decode here."""

    def patience_s(self, num_cached: int, num_new: int) -> float:
        """How long a peer may take, its queue included."""

    def observe(self, first: int, num_tokens: int, seconds: float) -> None:
        """A peer computed `num_tokens` tokens behind the first `first` in so long."""


@dataclass(frozen=True, slots=True)
class DecodeLoad:
    """What this engine decodes.

    Attributes:
        local_seqs, local_tokens: of sequences whose KV is here, or is going to be.
        remote: tokens now and at most of each sequence whose KV is with a peer.
    """

    local_seqs: int
    local_tokens: int
    remote: list[tuple[int, int]]


class OffloadRule(Protocol):
    """Policy: which sequences leave their KV with the peer that computes their prompt."""

    def is_remote(self, num_tokens: int, max_tokens: int, load: DecodeLoad) -> bool:
        """Whether one of so many tokens, and at most `max_tokens`, does."""

    def call_back(self, load: DecodeLoad) -> list[int]:
        """Which of the remote ones should come home, by their number."""


class Executors(Protocol):
    """How this engine reaches executors of peers; see `Exchange`."""

    def connect(self, region: str) -> RemotePeer:
        """The one in that memory. Raises `OffloadError`."""


@dataclass(frozen=True, slots=True)
class Offload:
    """What an engine needs to leave attention to peers."""

    rule: OffloadRule
    executors: Executors


@dataclass(slots=True)
class LandingStats:
    """Counters that only grow; `outcomes` by what became of landings."""

    num_bytes: int = 0
    seconds: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)


class Landings:
    """Lends blocks to landings and takes them back.

    Attributes:
        num_peers: that would compute prompts now.
    """

    def __init__(
        self,
        cache: PrefixCache,
        pad: LandingPad,
        placement: PrefillPlacement,
        block_size: int,
        clock: Callable[[], float],
        offload: Offload | None = None,
    ) -> None:
        self.stats = LandingStats()
        self.num_peers = 0
        self._cache = cache
        self._pad = pad
        self._placement = placement
        self._block_size = block_size
        self._clock = clock
        self._offload = offload
        self._peers: dict[str, RemotePeer] = {}
        self._open: dict[str, Landing] = {}
        self._num_landed = 0
        self._quarantine: list[Landing] = []
        self._numbers = itertools.count()
        self._wanted: list[PrefillJob] = []
        self._unwanted: list[Unwanted] = []

    @property
    def num_open(self) -> int:
        """Sequences that wait for a peer."""
        return len(self._open)

    @property
    def num_held(self) -> int:
        """Those, and sequences that could start at once: each is going to need a place."""
        return len(self._open) + self._num_landed

    @property
    def is_busy(self) -> bool:
        """Whether blocks are lent, or something is to be said."""
        return bool(self._open or self._quarantine or self._wanted or self._unwanted)

    def place(
        self, sequence: Sequence, hits: list[int], running: list[Sequence], has_slot: bool
    ) -> Place:
        """Where to compute a sequence behind the cached blocks `hits`. When it is `away` it has a
        `landing` now."""
        num_running = len(running)
        if not self.num_peers or sequence.num_landings >= _MOST_LANDINGS:
            return "here"
        if sequence.window is not None or sequence.needs_prompt_logprobs:
            return "here"
        if sequence.skip is not None:  # a peer would compute all sublayers
            return "here"
        if sequence.num_hidden or sequence.tail is not None:
            return "here"
        num_cached = len(hits) * self._block_size
        num_new = sequence.num_tokens - 1 - num_cached
        if num_new < 1 or not self._placement.is_away(num_cached, num_new, num_running):
            return "here"
        patience_s = self._placement.patience_s(num_cached, num_new)
        until_s = self._clock() + patience_s
        if has_slot and self._stays_away(sequence, running):
            self._ask(sequence, Landing(self._job(sequence, None), None, [], [], until_s))
            return "away"
        num_blocks = -(-(sequence.num_tokens - 1) // self._block_size) - len(hits)
        num_reserved = num_running + self.num_held + 1  # each may need its next block soon
        num_available = self._cache.num_available_blocks - self._cache.num_idle(hits)
        has_room = has_slot and num_blocks + num_reserved <= num_available
        opened = self._pad.open() if has_room else None
        if opened is None:
            # Somebody is going to end and make room, or nobody is there who could.
            return "wait" if num_running or self.num_held else "here"
        self._land(sequence, hits, num_blocks, opened, until_s)
        return "away"

    def end(self, done: PrefillDone) -> None:
        """What became of a job; unknown ones are ignored."""
        landing = self._open.get(done.job_id)
        if landing is not None:
            self._close(landing, done)

    def take(self, sequence: Sequence) -> Landing | None:
        """The landing of a sequence, which has ended; None if it failed: its blocks are gone. The
        caller has a reference on each of its blocks from now on."""
        landing, sequence.landing = sequence.landing, None
        assert landing is not None and landing.done is not None
        if landing.done.outcome != "done":
            return None
        self._num_landed -= 1
        return landing

    def leave(self, sequence: Sequence) -> None:
        """Nobody wants the sequence's landing any more, ended or not, nor its place."""
        if sequence.place is not None:
            self._let_go(sequence.place, sequence.tokens[: sequence.num_tokens].tolist())
            sequence.last_region = sequence.place.region
            sequence.place = None
        landing, sequence.landing = sequence.landing, None
        if landing is None:
            return
        if landing.done is None:
            self._give_up(landing, "cancelled", "")
        elif landing.done.outcome == "done":
            self._num_landed -= 1
            self._cache.release(landing.hits + landing.blocks)
            if landing.place is not None:
                self._let_go(landing.place, [])

    def called_back(self, running: list[Sequence]) -> list[Sequence]:
        """Sequences whose KV should come home, as others that it hid behind have ended."""
        remote = [sequence for sequence in running if sequence.place is not None]
        if self._offload is None or not remote:
            return []
        load = _load_of(running, list(self._open.values()))
        return [remote[i] for i in self._offload.rule.call_back(load) if i < len(remote)]

    def end_peer(self, region: str) -> None:
        """A process that may attend for sequences is dead for certain. Whether a writer is, its
        landing says."""
        self._peers.pop(region, None)

    def poll(self) -> None:
        """Gives up what takes too long; takes back blocks that nobody writes to any more."""
        now = self._clock()
        for landing in list(self._open.values()):
            if now >= landing.until_s:
                self._give_up(landing, "failed", "the peer took too long")
        for landing in self._quarantine:
            if landing.ticket is not None and self._pad.is_quiet(landing.ticket.slot):
                self._free(landing, landing.ticket.slot)
        self._quarantine = [x for x in self._quarantine if x.blocks]

    def take_wanted(self) -> list[PrefillJob]:
        """Jobs for peers since the last call."""
        wanted, self._wanted = self._wanted, []
        return wanted

    def take_unwanted(self) -> list[Unwanted]:
        """Jobs that are not wanted any more, since the last call."""
        unwanted, self._unwanted = self._unwanted, []
        return unwanted

    def _land(
        self,
        sequence: Sequence,
        hits: list[int],
        num_blocks: int,
        opened: tuple[int, int],
        until_s: float,
    ) -> None:
        self._cache.acquire(hits)
        blocks = [self._cache.allocate() for _ in range(num_blocks)]
        slot, generation = opened
        ticket = LandingTicket(
            region=self._pad.name,
            slot=slot,
            generation=generation,
            first_block=len(hits),
            blocks=blocks,
        )
        job = self._job(sequence, ticket)
        self._ask(sequence, Landing(job, ticket, list(hits), blocks, until_s))

    def _job(self, sequence: Sequence, ticket: LandingTicket | None) -> PrefillJob:
        request = sequence.state.request
        return PrefillJob(
            job_id=f"{self._pad.name}/{next(self._numbers)}",
            request_id=request.request_id,
            token_ids=sequence.tokens[: sequence.num_tokens].tolist(),
            priority=request.priority,
            timeout_s=request.timeout_s,
            cache_salt=request.cache_salt,
            session_id=request.session_id,
            landing=ticket,
            max_tokens=sequence.max_tokens,
            near=sequence.last_region,
        )

    def _ask(self, sequence: Sequence, landing: Landing) -> None:
        sequence.num_landings += 1
        sequence.landing = landing
        self._open[landing.job.job_id] = landing
        self._wanted.append(landing.job)

    def _stays_away(self, sequence: Sequence, running: list[Sequence]) -> bool:
        """Whether the KV of a sequence is to stay with the peer. One that was asked for again has
        lost a peer, and comes home."""
        if self._offload is None or sequence.num_landings or sequence.state.truncates:
            return False
        if len(sequence.state.sequences) > 1 or sequence.state.kind.attention:
            return False
        load = _load_of(running, list(self._open.values()))
        return self._offload.rule.is_remote(sequence.num_tokens, sequence.max_tokens, load)

    def _give_up(self, landing: Landing, outcome: PrefillOutcome, error: str) -> None:
        job_id = landing.job.job_id
        self._unwanted.append(Unwanted(job_id, []))
        self._close(landing, PrefillDone(job_id=job_id, outcome=outcome, error=error))

    def _let_go(self, place: RemotePlace, token_ids: list[int]) -> None:
        self._unwanted.append(Unwanted(place.job_id, token_ids))

    def _close(self, landing: Landing, done: PrefillDone) -> None:
        del self._open[landing.job.job_id]
        done = self._checked(landing, done)
        landing.done = done
        outcomes = self.stats.outcomes
        outcomes[done.outcome] = outcomes.get(done.outcome, 0) + 1
        if done.outcome == "done":
            self._observe(landing.job, done)
            self.stats.num_bytes += done.num_bytes
            self._num_landed += 1
            if landing.ticket is not None:
                self._pad.release(landing.ticket.slot)
            return
        self._cache.release(landing.hits)
        landing.hits = []
        if landing.ticket is None:
            return
        if self._pad.revoke(landing.ticket.slot):
            self._free(landing, landing.ticket.slot)
        else:
            self._quarantine.append(landing)

    def _checked(self, landing: Landing, done: PrefillDone) -> PrefillDone:
        """What a peer says, if it is true."""
        if done.outcome != "done":
            return done
        error = ""
        if landing.ticket is not None:
            if not self._pad.is_complete(landing.ticket.slot):
                error = "the peer says that it is done, its landing does not"
        elif done.placement is None:
            error = "the peer does not say where the sequence is"
        else:
            try:
                landing.place = self._reach(landing.job, done.placement)
            except OffloadError as problem:
                error = str(problem)
                self._unwanted.append(Unwanted(done.job_id, []))
        if not error:
            return done
        return PrefillDone(job_id=done.job_id, outcome="failed", error=error)

    def _reach(self, job: PrefillJob, placement: Placement) -> RemotePlace:
        if self._offload is None or placement.num_tokens != len(job.token_ids) - 1:
            raise OffloadError(f"the peer has kept {placement.num_tokens} tokens of {job.job_id}")
        peer = self._peers.get(placement.region)
        if peer is None or not peer.is_alive:
            peer = self._peers[placement.region] = self._offload.executors.connect(placement.region)
        elif peer.is_broken:
            peer.reconnect(_CONNECT_S)
        name = RemoteName(placement.slot, placement.generation)
        return RemotePlace(job.job_id, placement.region, peer, name)

    def _free(self, landing: Landing, slot: int) -> None:
        self._pad.release(slot)
        self._cache.release(landing.blocks)
        landing.blocks = []

    def _observe(self, job: PrefillJob, done: PrefillDone) -> None:
        num_tokens = len(job.token_ids) - 1 - done.num_cached_tokens
        if num_tokens > 0 and done.prefill_ms > 0:
            self.stats.seconds += done.prefill_ms / 1e3
            self._placement.observe(done.num_cached_tokens, num_tokens, done.prefill_ms / 1e3)


def _load_of(running: list[Sequence], coming: list[Landing]) -> DecodeLoad:
    """What an engine decodes, and is going to."""
    here = [other.num_tokens for other in running if other.place is None]
    here += [len(landing.job.token_ids) for landing in coming if landing.ticket is not None]
    remote = [(other.num_tokens, other.max_tokens) for other in running if other.place is not None]
    remote += [
        (len(landing.job.token_ids), landing.job.max_tokens)
        for landing in coming
        if landing.ticket is None
    ]
    return DecodeLoad(len(here), sum(here), remote)
