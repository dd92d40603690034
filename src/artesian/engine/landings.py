"""Prompts that a peer computes for this engine: the side that decodes.

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

from artesian.engine.handover import LandingPad, LandingTicket, PrefillDone, PrefillJob
from artesian.engine.landing import Landing
from artesian.engine.sequence import Sequence
from artesian.kvcache.prefix_cache import PrefixCache

Place = Literal["here", "wait", "away"]
"""Where a prompt is computed: here; not yet; by a peer."""

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
    ) -> None:
        self.stats = LandingStats()
        self.num_peers = 0
        self._cache = cache
        self._pad = pad
        self._placement = placement
        self._block_size = block_size
        self._clock = clock
        self._open: dict[str, Landing] = {}
        self._num_landed = 0
        self._quarantine: list[Landing] = []
        self._numbers = itertools.count()
        self._wanted: list[PrefillJob] = []
        self._unwanted: list[str] = []

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

    def place(self, sequence: Sequence, hits: list[int], num_running: int, has_slot: bool) -> Place:
        """Where to compute a sequence behind the cached blocks `hits`. When it is `away` it has a
        `landing` now."""
        if not self.num_peers or sequence.num_landings >= _MOST_LANDINGS:
            return "here"
        if sequence.window is not None or sequence.needs_prompt_logprobs:
            return "here"
        if sequence.num_hidden or sequence.tail is not None:
            return "here"
        num_cached = len(hits) * self._block_size
        num_new = sequence.num_tokens - 1 - num_cached
        if num_new < 1 or not self._placement.is_away(num_cached, num_new, num_running):
            return "here"
        num_blocks = -(-(sequence.num_tokens - 1) // self._block_size) - len(hits)
        num_reserved = num_running + self.num_held + 1  # each may need its next block soon
        num_available = self._cache.num_available_blocks - self._cache.num_idle(hits)
        has_room = has_slot and num_blocks + num_reserved <= num_available
        opened = self._pad.open() if has_room else None
        if opened is None:
            # Somebody is going to end and make room, or nobody is there who could.
            return "wait" if num_running or self.num_held else "here"
        patience_s = self._placement.patience_s(num_cached, num_new)
        self._land(sequence, hits, num_blocks, opened, self._clock() + patience_s)
        return "away"

    def end(self, done: PrefillDone) -> None:
        """What became of a job; unknown ones are ignored."""
        landing = self._open.get(done.job_id)
        if landing is not None:
            self._close(landing, done)

    def take(self, sequence: Sequence) -> list[int] | None:
        """The blocks of a landing that has ended, cached ones first, with a reference on each; None
        if it failed: its blocks are gone."""
        landing = sequence.landing
        assert landing is not None and landing.done is not None
        sequence.landing = None
        if landing.done.outcome != "done":
            return None
        self._num_landed -= 1
        return landing.hits + landing.blocks

    def leave(self, sequence: Sequence) -> None:
        """Nobody wants the sequence's landing any more, ended or not."""
        landing, sequence.landing = sequence.landing, None
        if landing is None:
            return
        if landing.done is None:
            self._unwanted.append(landing.job.job_id)
            done = PrefillDone(job_id=landing.job.job_id, outcome="cancelled")
            self._close(landing, done)
        elif landing.done.outcome == "done":
            self._num_landed -= 1
            self._cache.release(landing.hits + landing.blocks)

    def end_peer(self, region: str) -> None:
        """A process that may have written here is dead for certain."""
        self._pad.end_writer(region)

    def poll(self) -> None:
        """Gives up what takes too long; takes back blocks that nobody writes to any more."""
        now = self._clock()
        for landing in list(self._open.values()):
            if now >= landing.until_s:
                self._unwanted.append(landing.job.job_id)
                error = "the peer took too long"
                done = PrefillDone(job_id=landing.job.job_id, outcome="failed", error=error)
                self._close(landing, done)
        for landing in self._quarantine:
            if self._pad.is_quiet(landing.ticket.slot):
                self._free(landing)
        self._quarantine = [x for x in self._quarantine if x.blocks]

    def take_wanted(self) -> list[PrefillJob]:
        """Jobs for peers since the last call."""
        wanted, self._wanted = self._wanted, []
        return wanted

    def take_unwanted(self) -> list[str]:
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
        request = sequence.state.request
        job = PrefillJob(
            job_id=f"{self._pad.name}/{next(self._numbers)}",
            request_id=request.request_id,
            token_ids=sequence.tokens[: sequence.num_tokens].tolist(),
            priority=request.priority,
            timeout_s=request.timeout_s,
            cache_salt=request.cache_salt,
            landing=ticket,
        )
        sequence.num_landings += 1
        sequence.landing = Landing(job, ticket, list(hits), blocks, until_s)
        self._open[job.job_id] = sequence.landing
        self._wanted.append(job)

    def _close(self, landing: Landing, done: PrefillDone) -> None:
        del self._open[landing.job.job_id]
        slot = landing.ticket.slot
        if done.outcome == "done" and not self._pad.is_complete(slot):
            error = "the peer says that it is done, its landing does not"
            done = PrefillDone(job_id=done.job_id, outcome="failed", error=error)
        landing.done = done
        outcomes = self.stats.outcomes
        outcomes[done.outcome] = outcomes.get(done.outcome, 0) + 1
        if done.outcome == "done":
            self._observe(landing.job, done)
            self.stats.num_bytes += done.num_bytes
            self._pad.release(slot)
            self._num_landed += 1
            return
        self._cache.release(landing.hits)
        landing.hits = []
        if self._pad.revoke(slot):
            self._free(landing)
        else:
            self._quarantine.append(landing)

    def _observe(self, job: PrefillJob, done: PrefillDone) -> None:
        num_tokens = len(job.token_ids) - 1 - done.num_cached_tokens
        if num_tokens > 0 and done.prefill_ms > 0:
            self.stats.seconds += done.prefill_ms / 1e3
            self._placement.observe(done.num_cached_tokens, num_tokens, done.prefill_ms / 1e3)

    def _free(self, landing: Landing) -> None:
        self._pad.release(landing.ticket.slot)
        self._cache.release(landing.blocks)
        landing.blocks = []
