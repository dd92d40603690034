"""Sequences of peers whose KV stays here: this engine's executor attends for them.

A resident has room for all that its sequence may become, so that nothing has to be arranged while
it grows. It is a lease: it ends when its owner lets it go, dies, or has it do nothing for long.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from artesian.engine.handover import Placement, PrefillJob
from artesian.engine.offload import OffloadError, RemoteName
from artesian.kvcache.hashing import BlockHasher
from artesian.kvcache.prefix_cache import PrefixCache

_MOST_SHARE = 0.6
"""Of all blocks: the others are for prompts."""
_LEASE_S = 60.0
"""A sequence that has not grown for so long is not decoded any more."""


class SequenceHost(Protocol):
    """The executor beside this engine; see `OffloadExecutor`."""

    def admit(self, blocks: list[int], num_tokens: int) -> RemoteName:
        """Takes a sequence. Raises `OffloadError`."""

    def release(self, name: RemoteName) -> bool:
        """Lets it go; its blocks are not touched behind that."""

    def num_tokens(self, name: RemoteName) -> int | None:
        """Tokens whose KV it has."""


@dataclass(slots=True)
class Resident:
    """A sequence that stays.

    Attributes:
        hashes: names of its first blocks, which have them already.
        num_tokens: when somebody looked last, at `seen_s`.
    """

    job: PrefillJob
    name: RemoteName
    blocks: list[int]
    hasher: BlockHasher
    hashes: list[bytes]
    num_tokens: int
    seen_s: float


@dataclass(slots=True)
class Residents:
    """All of one engine. `region` is the memory by which owners reach the executor; `save` begins
    to save blocks that have names, from a number on; `note` takes notice of names that a job has
    left behind with so many tokens."""

    cache: PrefixCache
    executor: SequenceHost
    region: str
    block_size: int
    clock: Callable[[], float]
    save: Callable[[list[bytes], list[int], int], None]
    note: Callable[[PrefillJob, list[bytes], int], None]
    _by_job: dict[str, Resident] = field(default_factory=dict)

    @property
    def num_open(self) -> int:
        """Sequences that stay."""
        return len(self._by_job)

    def keep(
        self, job: PrefillJob, blocks: list[int], hasher: BlockHasher, hashes: list[bytes]
    ) -> Placement:
        """Keeps the blocks of a prompt that is computed, all but its last token.

        Raises:
            OffloadError: there is no room.
        """
        num_tokens = len(job.token_ids) - 1
        most = max(job.max_tokens, len(job.token_ids))
        num_more = -(-most // self.block_size) - len(blocks)
        num_held = sum(len(resident.blocks) for resident in self._by_job.values())
        is_full = num_held + len(blocks) + num_more > _MOST_SHARE * self.cache.num_blocks
        if is_full or num_more > self.cache.num_available_blocks:
            raise OffloadError(f"there is no room for {most} tokens of a peer's sequence")
        self.cache.acquire(blocks)
        held = blocks + [self.cache.allocate() for _ in range(num_more)]
        try:
            name = self.executor.admit(held, num_tokens)
        except OffloadError:
            self.cache.release(held)
            raise
        self._by_job[job.job_id] = Resident(
            job, name, held, hasher, hashes, num_tokens, self.clock()
        )
        return Placement(
            region=self.region,
            slot=name.slot,
            generation=name.generation,
            num_tokens=num_tokens,
            max_tokens=len(held) * self.block_size,
        )

    def release(self, job_id: str, token_ids: list[int]) -> None:
        """Lets a sequence go; unknown ones are ignored. With its tokens its blocks get names, so
        that what it has become is cached like any prompt."""
        resident = self._by_job.pop(job_id, None)
        if resident is None:
            return
        num_tokens = self.executor.num_tokens(resident.name) or 0
        self.executor.release(resident.name)
        if token_ids[: len(resident.job.token_ids)] == resident.job.token_ids:
            self._name(resident, token_ids[:num_tokens])
        self.cache.release(resident.blocks)

    def end_owner(self, region: str) -> None:
        """A process is dead: what it had here goes."""
        for job_id in list(self._by_job):
            if job_id.rpartition("/")[0] == region:
                self.release(job_id, [])

    def poll(self) -> None:
        """Ends leases that nobody renews by decoding."""
        now = self.clock()
        for job_id, resident in list(self._by_job.items()):
            num_tokens = self.executor.num_tokens(resident.name)
            if num_tokens is not None and num_tokens != resident.num_tokens:
                resident.num_tokens, resident.seen_s = num_tokens, now
            elif num_tokens is None or now - resident.seen_s > _LEASE_S:
                self.release(job_id, [])

    def _name(self, resident: Resident, token_ids: list[int]) -> None:
        hashes = list(resident.hashes)
        num_named = len(hashes)
        resident.hasher.extend(hashes, np.array(token_ids, np.int32))
        for index in range(num_named, len(hashes)):
            resident.blocks[index] = self.cache.name(resident.blocks[index], hashes[index])
        if len(hashes) > num_named:
            self.save(hashes, resident.blocks[: len(hashes)], num_named)
        self.note(resident.job, hashes, len(token_ids))
