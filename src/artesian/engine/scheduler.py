"""Which sequences run in the next step, and how many tokens of each.

A policy: no I/O, no clock. It owns the waiting and running sequences and lends them blocks.

- Decode first: every running sequence with one token to compute gets it. What is left of the token
  budget goes to prompts, in chunks, in order of rank (priority, then arrival).
- A sequence is admitted when its prompt's blocks fit and each running sequence could still grow by
  one block; decode takes blocks as it fills them. When none is left, the running sequence of worst
  rank is preempted: its blocks stay cached while room lasts, so that computing them again is cheap.
- A waiting sequence of better priority than a running one takes its place.
- A sequence whose next blocks are in a tier of the context cache waits while they come, or starts
  when their layers come quickly enough (`context.preload`); those that will wait anyway ask for
  theirs ahead of time. Blocks that are on their way are given no names, so nobody else finds them,
  until all have come and verified: that is known behind the step, and if they have not, the step is
  undone.
- Where a tier is about as slow as computing, both are done at once: the sequence computes its first
  blocks while the last ones come, and goes on behind those (`context.cost.plan_load`).
- A sequence whose next blocks another one is computing right now waits for them instead of
  computing them twice.
- A long prompt may be computed by a peer (`engine.landings`): the sequence waits, and starts with
  its last token.
- Sequences that speculate draft tokens in steps of one row, then verify them in one of several
  (`engine.speculation`).
- A sequence whose context window is full and whose tokens go on drops the oldest ones first, if it
  may be truncated.
- A sequence whose generated tokens do not attend to everything begins with blocks that are exact,
  and then with those that its like have left, if there are any (`kvcache.kind`).
"""

from bisect import insort
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from artesian.context import ContextCache, Onboarding
from artesian.engine.early import EarlyStart, find_early_start
from artesian.engine.landings import Landings
from artesian.engine.sequence import ALL_DENSE, Sequence, Status
from artesian.engine.speculation import Speculator
from artesian.engine.truncation import Truncator
from artesian.kvcache.prefix_cache import PrefixCache
from artesian.ops.base import F32

# While others decode, a chunk takes at most this share of the budget, so that their next tokens are
# not late.
_MIXED_PREFILL_DIVISOR = 4
_MIN_MIXED_PREFILL_TOKENS = 64

# Rows of logits are wide: prompts whose every row is wanted advance in small chunks.
_PROMPT_LOGPROBS_CHUNK_TOKENS = 64

# Waiting sequences whose blocks are fetched before there is a place for them.
_LOOK_AHEAD = 8

# A prefix that was fetched and evicted again before the sequence could start is fetched once more.
_MOST_ONBOARDINGS = 2


@dataclass(slots=True)
class Schedule:
    """One step: `sequences[i]` computes its next `num_tokens[i]` tokens, and waits no longer than
    `timeout_s` for blocks that are on their way. `audits`: what sparse attention leaves out is
    looked at, too. `probe`: takes how little sublayers change its rows; see `Batch`."""

    sequences: list[Sequence] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)
    timeout_s: float = 0.0
    audits: bool = False
    probe: F32 | None = None

    def put_in_order(self) -> None:
        """Sequences that leave out sublayers go behind the others, those that leave out more behind
        those that leave out less; ones that peers attend for to the very end, those of one peer
        together."""
        peers = list({id(s.place.peer): None for s in self.sequences if s.place is not None})
        if not peers and all(sequence.skip is None for sequence in self.sequences):
            return

        def order(pair: tuple[Sequence, int]) -> tuple[int, int, tuple[int, ...]]:
            place, skip = pair[0].place, pair[0].skip
            if place is not None:
                return peers.index(id(place.peer)), 0, ()
            left_out = () if skip is None else skip.sublayers
            return -1, len(left_out), left_out

        pairs = sorted(zip(self.sequences, self.num_tokens, strict=True), key=order)
        self.sequences = [sequence for sequence, _ in pairs]
        self.num_tokens = [num_tokens for _, num_tokens in pairs]


class Scheduler:
    """Continuous batching over a `PrefixCache`.

    Attributes:
        waiting: by rank; running: in order of admission.
        num_started: requests of which a sequence has run, ended ones included.
        num_early_starts: sequences that started while blocks were on their way; num_rewinds: of
        these, those whose step was undone, as blocks did not come.
        block_tables: int32 (max_num_seqs, blocks of the longest sequence), row `slot` of each
        running sequence.
    """

    def __init__(
        self,
        cache: PrefixCache,
        block_size: int,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        max_model_len: int,
        keep_finished: bool = True,
        context: ContextCache | None = None,
        truncator: Truncator | None = None,
        landings: Landings | None = None,
        speculator: Speculator | None = None,
    ) -> None:
        num_blocks = -(-max_model_len // block_size)
        if cache.num_blocks < num_blocks:
            raise ValueError(
                f"a sequence of max_model_len {max_model_len} needs {num_blocks} KV blocks, "
                f"but there are {cache.num_blocks}"
            )
        self.cache = cache
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.num_preemptions = 0
        self.num_started = 0
        self.num_early_starts = 0
        self.num_rewinds = 0
        self.block_tables: npt.NDArray[np.int32] = np.zeros((max_num_seqs, num_blocks), np.int32)
        self._block_size = block_size
        self._max_num_seqs = min(max_num_seqs, max_num_batched_tokens)
        self._budget = max_num_batched_tokens
        self._keep_finished = keep_finished
        self._context = context
        self._truncator = truncator
        self._landings = landings
        self._speculator = speculator
        self._most_tokens = max_model_len  # of a sequence at once
        if truncator is not None:
            self._most_tokens = min(max_model_len, truncator.cuts.window_tokens)
        self._free_slots = list(range(max_num_seqs))
        self._being_computed: dict[bytes, Sequence] = {}
        self._num_balanced = 0
        self._now = 0.0

    @property
    def num_free_slots(self) -> int:
        """Sequences that could join the running ones, if blocks allow."""
        return self._max_num_seqs - len(self.running)

    def sequences(self) -> list[Sequence]:
        """All that run or wait."""
        return [*self.running, *self.waiting]

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence."""
        insort(self.waiting, sequence, key=_rank)
        if self._context is not None:
            if self._truncator is not None:
                self._truncator.enter(sequence, may_load=True)
            sequence.extend_hashes(sequence.num_tokens)
            names = tuple(sequence.hashes)  # a window that moves has others
            self._context.enqueue(sequence.rank, names, sequence.state.tenant)

    def remove(self, sequence: Sequence) -> None:
        """Ends a sequence, waiting or running, and gives back its blocks."""
        if sequence.status is Status.RUNNING:
            self._stop_running(sequence, keep_named=self._keep_finished)
        elif sequence.status is Status.WAITING:
            self.waiting.remove(sequence)
            self._leave_queue(sequence)
        if self._context is not None and sequence.onboarding is not None:
            self._context.leave(sequence.onboarding)
            sequence.onboarding = None
        self._drop_tail(sequence)
        if self._landings is not None:
            self._landings.leave(sequence)
            self._leave_names(sequence)
        sequence.status = Status.FINISHED

    def schedule(self, now: float) -> Schedule:
        """The next step; empty only when nothing can run."""
        self._now = now
        schedule = Schedule()
        budget = self._budget
        prefilling: list[Sequence] = []
        if self._landings is not None:
            self._start_landed(now)
            self._call_back(self._landings)
        for sequence in list(self.running):
            if sequence.status is not Status.RUNNING:  # preempted for the sake of an earlier one
                continue
            if not self._moves_on(sequence, schedule):
                continue
            if sequence.num_tokens - sequence.num_computed > 1:
                prefilling.append(sequence)
            elif self._ensure_block(sequence, schedule):
                schedule.sequences.append(sequence)
                schedule.num_tokens.append(1)
        if self._speculator is not None:
            self._speculator.plan(
                schedule.sequences,
                schedule.num_tokens,
                budget,
                self._lend,
                self._most_tokens,
                is_quiet=not prefilling and not self.waiting,
            )
        budget -= sum(schedule.num_tokens)
        if schedule.sequences:
            share = max(self._budget // _MIXED_PREFILL_DIVISOR, _MIN_MIXED_PREFILL_TOKENS)
            budget = min(budget, share)
        prefilling.sort(key=_rank)
        for sequence in prefilling:
            priority = sequence.rank[0]
            if self.waiting and self.waiting[0].rank[0] < priority:
                budget = self._admit(schedule, budget, now, priority)
            if budget and sequence.status is Status.RUNNING:
                budget -= self._add_chunk(schedule, sequence, budget)
        if self.waiting:
            self._admit(schedule, budget, now)
            if self._context is not None:
                self._look_ahead()
        schedule.put_in_order()
        return schedule

    def settle(self, sequence: Sequence) -> bool:
        """Whether what a step computed for `sequence` counts: if blocks that were on their way have
        not come, it waits again, for what still comes of them; if the peer that has its KV has
        failed, it is computed anew."""
        onboarding = sequence.onboarding
        if sequence.place is not None and sequence.place.is_lost:
            self._stop_running(sequence, keep_named=True)
            self._wait_again(sequence)
            return False
        if onboarding is None:
            return True
        if onboarding.is_done and all(gate.is_complete for gate in onboarding.gates):
            sequence.onboarding = None
            self._count_tail(sequence, onboarding)
            if sequence.state.first_scheduled_s is None:
                num_blocks = sequence.num_computed // self._block_size
                self._note_first_start(sequence, num_blocks, self._now)
            return True
        self.num_rewinds += 1
        self._stop_running(sequence, keep_named=True)
        self._wait_again(sequence)
        return False

    def computed(self, sequence: Sequence, num_tokens: int) -> None:
        """Notes that the KV of the next `num_tokens` tokens is stored; names the blocks that are
        full now."""
        num_before = sequence.num_computed // self._block_size
        if sequence.attends is not None and num_before < sequence.num_dense_blocks:
            self._leave_names(sequence)
            sequence.set_dense_blocks(num_before)
        sequence.num_computed += num_tokens
        if sequence.place is not None:
            return
        num_full = sequence.num_computed // self._block_size
        if num_full == sequence.num_named:
            return
        sequence.extend_hashes(sequence.num_computed)
        num_full = min(num_full, len(sequence.hashes))
        table = self.block_tables[sequence.slot]
        for index in range(sequence.num_named, num_full):
            name = sequence.hashes[index]
            block = self.cache.name(sequence.blocks[index], name)
            sequence.blocks[index] = block
            table[index] = block
            if self._being_computed.get(name) is sequence:
                del self._being_computed[name]
        sequence.num_named = num_full
        self._save(sequence)
        if sequence.tail is not None and sequence.num_computed >= sequence.reach(self._block_size):
            self._meet_tail(sequence)

    def _meet_tail(self, sequence: Sequence) -> None:
        """What is before the tail is computed: now the sequence waits for it, if it must."""
        assert self._context is not None and sequence.tail is not None
        sequence.onboarding, sequence.tail = sequence.tail, None
        self._context.wait_for_tail(sequence.onboarding)
        self._stop_running(sequence, keep_named=True)
        self._wait_again(sequence)

    def _drop_tail(self, sequence: Sequence) -> None:
        if self._context is not None and sequence.tail is not None:
            self._context.leave(sequence.tail)
            sequence.tail = None

    def _count_tail(self, sequence: Sequence, onboarding: Onboarding) -> None:
        """Blocks that came while the sequence was computing were cached as well."""
        state = sequence.state
        if onboarding.gap and state.first_scheduled_s is not None:
            num_cached = state.num_cached_tokens + onboarding.num_loaded * self._block_size
            num_cached = min(num_cached, state.num_prompt_tokens)
            self.cache.stats.hits_tokens += num_cached - state.num_cached_tokens
            state.num_cached_tokens = num_cached

    def _save(self, sequence: Sequence) -> None:
        """Begins to save what is named and was not saved yet; what is refused is tried again."""
        if self._context is not None:
            blocks = sequence.blocks[: sequence.num_named]
            sequence.num_saved += self._context.save(
                sequence.hashes, blocks, sequence.num_saved, sequence.state.tenant
            )

    def _ensure_block(self, sequence: Sequence, schedule: Schedule) -> bool:
        """Makes room for one more token, preempting by rank; False when `sequence` itself had to
        go."""
        if sequence.place is not None:
            return True
        if sequence.num_tokens <= len(sequence.blocks) * self._block_size:
            return True
        while not self.cache.num_available_blocks:
            victim = max((other for other in self.running if other.place is None), key=_rank)
            self._preempt(victim, schedule)
            if victim is sequence:
                return False
        self._append_block(sequence)
        return True

    def _lend(self, sequence: Sequence, num_tokens: int) -> bool:
        """Whether there are blocks for so many tokens, beside those that others may need soon."""
        while len(sequence.blocks) * self._block_size < num_tokens:
            if self.cache.num_available_blocks <= len(self.running):
                return False
            self._append_block(sequence)
        return True

    def _moves_on(self, sequence: Sequence, schedule: Schedule) -> bool:
        """Drops the oldest tokens of a window that is full, preempting by rank; False when
        `sequence` itself had to go, or to wait for blocks that are being saved."""
        truncator = self._truncator
        if truncator is None or not truncator.is_full(sequence):
            return True
        self._save(sequence)
        while not truncator.has_room(sequence):
            victim = max(self.running, key=_rank)
            if len(self.running) > 1:
                self._preempt(victim, schedule)
            if victim is sequence:
                return False
        truncator.move_on(sequence)
        num_named = sequence.num_named
        self.block_tables[sequence.slot, :num_named] = sequence.blocks
        self._fill_up(sequence, num_named)
        return True

    def _leave_queue(self, sequence: Sequence) -> None:
        if self._context is not None:
            self._context.dequeue(sequence.rank)

    def _add_chunk(self, schedule: Schedule, sequence: Sequence, budget: int) -> int:
        num_tokens = min(sequence.reach(self._block_size) - sequence.num_computed, budget)
        if sequence.needs_prompt_logprobs:
            num_tokens = min(num_tokens, _PROMPT_LOGPROBS_CHUNK_TOKENS)
        if sequence.extends_at is not None and sequence.num_computed < sequence.extends_at:
            num_tokens = min(num_tokens, sequence.extends_at - sequence.num_computed)
        schedule.sequences.append(sequence)
        schedule.num_tokens.append(num_tokens)
        return num_tokens

    def _admit(
        self, schedule: Schedule, budget: int, now: float, before_priority: int | None = None
    ) -> int:
        """Moves waiting sequences to running, by rank, until one does not fit.

        Only those of better priority than `before_priority`, if that is given. Returns the budget
        that is left.
        """
        index = 0
        while budget and index < len(self.waiting):
            sequence = self.waiting[index]
            if before_priority is not None and sequence.rank[0] >= before_priority:
                break
            if sequence.waits_for is not None and sequence.waits_for in self._being_computed:
                index += 1
                continue
            if sequence.landing is not None:
                index += 1
                continue
            early = None
            if self._is_onboarding(sequence):
                early = self._early_start(sequence, schedule, budget)
                hits = None if early is None else early.hits + early.coming
            else:
                hits = self._prefix(sequence)
            if hits is None:
                index += 1
                continue
            if sequence.tail is not None and len(hits) >= sequence.tail.num_before:
                self._drop_tail(sequence)  # somebody else has computed what is before it
            if not self._make_room(sequence, hits, schedule):
                break
            index = self.waiting.index(sequence)  # the preempted may have queued before it
            del self.waiting[index]
            self._start(sequence, hits, now, early)
            budget -= self._add_chunk(schedule, sequence, budget)
            if early is not None:
                schedule.timeout_s = max(schedule.timeout_s, early.timeout_s)
                if early.is_exclusive:
                    return 0
        return budget

    def _early_start(
        self, sequence: Sequence, schedule: Schedule, budget: int
    ) -> EarlyStart | None:
        if self._context is None or sequence.state.is_job:
            return None  # what has not come yet cannot be passed on
        is_alone = not schedule.sequences and not self.running
        size = self._block_size
        return find_early_start(self._context, self.cache, sequence, size, budget, is_alone)

    def _prefix(self, sequence: Sequence) -> list[int] | None:
        """Cached blocks to start with; None while a tier or another sequence provides more."""
        hits = self._lookup(sequence)
        if sequence.waits_for is not None or self._begin_onboarding(sequence, hits):
            return None
        self._forget_unused_names(sequence, hits)
        if self._is_elsewhere(sequence, hits):
            return None
        if self._truncator is None or self._truncator.can_start(sequence, len(hits)):
            return hits
        hits = self._lookup(sequence, may_load=False)
        return hits if sequence.waits_for is None else None

    def _is_elsewhere(self, sequence: Sequence, hits: list[int]) -> bool:
        """Whether a peer computes it, or is going to."""
        if self._landings is None or sequence.state.is_job:
            return False
        place = self._landings.place(sequence, hits, self.running, self._has_slot())
        if sequence.landing is not None and sequence.landing.ticket is not None:
            for name in sequence.hashes[len(hits) : (sequence.num_tokens - 1) // self._block_size]:
                self._being_computed.setdefault(name, sequence)
        return place != "here"

    def _start_landed(self, now: float) -> None:
        """Starts what peers have computed all but the last token of, whatever its rank: it has its
        blocks and its place."""
        assert self._landings is not None
        landed = [s for s in self.waiting if s.landing is not None and s.landing.done is not None]
        for sequence in landed:
            landing = self._landings.take(sequence)
            self._leave_names(sequence)
            if landing is None or landing.done is None:
                continue
            self.waiting.remove(sequence)
            num_hits, num_cached = len(landing.hits), landing.done.num_cached_tokens
            self._enter(sequence, landing.hits + landing.blocks, num_hits)
            sequence.place = landing.place
            state = sequence.state
            if state.first_scheduled_s is None:
                self._note_first_start(sequence, num_hits, now)
                state.num_cached_tokens = max(state.num_cached_tokens, num_cached)
            sequence.num_computed = num_hits * self._block_size
            self.computed(sequence, sequence.num_tokens - 1 - sequence.num_computed)

    def _call_back(self, landings: Landings) -> None:
        """Brings sequences home from peers when there is not enough left that hides them."""
        if len(self.running) == self._num_balanced:
            return
        for sequence in landings.called_back(self.running):
            self._stop_running(sequence, keep_named=True)
            self._wait_again(sequence)
        self._num_balanced = len(self.running)

    def _has_slot(self) -> bool:
        """Whether one more may run, besides those that peers are preparing."""
        num_held = 0 if self._landings is None else self._landings.num_held
        return len(self.running) + num_held < self._max_num_seqs

    def _lookup(self, sequence: Sequence, may_load: bool = True) -> list[int]:
        """Cached blocks of `sequence`, never all its tokens: the last one must be computed for its
        logits.

        Sets `waits_for` when running sequences are computing the blocks behind those. `may_load`:
        what a tier has counts when a place in a truncated stream is chosen.
        """
        sequence.waits_for = None
        may_load = may_load and sequence.num_onboardings < _MOST_ONBOARDINGS
        if self._truncator is not None:
            self._truncator.enter(sequence, may_load)
        sequence.set_dense_blocks(ALL_DENSE)
        if sequence.needs_prompt_logprobs:  # all rows must be computed
            return []
        num_usable = (sequence.num_tokens - 1) // self._block_size
        sequence.extend_hashes(sequence.num_tokens)
        if sequence.state.kind.attention:
            self._choose_names(sequence, num_usable, may_load)
        hits = self.cache.lookup(sequence.hashes[:num_usable])
        for name in sequence.hashes[len(hits) : num_usable]:
            producer = self._being_computed.get(name)
            if producer is None or producer.rank[0] > sequence.rank[0]:
                break  # never wait behind worse priority
            sequence.waits_for = name
        return hits

    def _choose_names(self, sequence: Sequence, num_usable: int, may_load: bool) -> None:
        """Behind the blocks that are cached as computed with attention to everything, a sequence
        may go on with those that its like have computed otherwise."""

        def num_cached(names: list[bytes]) -> int:
            num_found = len(self.cache.lookup(names))
            if may_load and self._context is not None:
                num_found += sum(self._context.find(names[num_found:]).values())
            return num_found

        num_found = num_cached(sequence.hashes[:num_usable])
        if num_found < num_usable:
            exact = sequence.exact_hashes[num_found]
            if num_cached([sequence.state.kind.sparse_name(exact)]):
                sequence.set_dense_blocks(num_found)

    def _forget_unused_names(self, sequence: Sequence, hits: list[int]) -> None:
        """Behind these blocks all is going to be computed: if they are dense, so is that."""
        if len(hits) <= sequence.num_dense_blocks and sequence.tail is None:
            sequence.set_dense_blocks(ALL_DENSE)

    def _is_onboarding(self, sequence: Sequence) -> bool:
        onboarding = sequence.onboarding
        if onboarding is None:
            return False
        if not (onboarding.is_done or onboarding.is_late):
            return True
        sequence.onboarding = None
        self._count_tail(sequence, onboarding)
        if onboarding.num_loaded == 0 and not onboarding.is_cancelled:  # no use to ask again
            sequence.num_onboardings = _MOST_ONBOARDINGS
        return False

    def _begin_onboarding(
        self, sequence: Sequence, hits: list[int], starts_now: bool = True
    ) -> bool:
        """Whether blocks behind `hits` are on their way from a tier now, and to be waited for."""
        if self._context is None or sequence.num_onboardings >= _MOST_ONBOARDINGS:
            return False
        if sequence.tail is not None:
            return False
        if sequence.needs_prompt_logprobs:
            return False
        num_usable = (sequence.num_tokens - 1) // self._block_size
        num_reserved = len(self.running)  # each may need its next block soon
        names = sequence.hashes[:num_usable]
        onboarding = self._context.onboard(
            names,
            hits,
            num_reserved,
            sequence.state.tenant,
            may_split=starts_now and sequence.window is None,
            is_alone=not self.running and len(self.waiting) == 1,
            num_tokens=sequence.num_tokens,
            step_tokens=self._budget,
        )
        sequence.num_onboardings += 1
        if onboarding is not None and onboarding.gap:
            sequence.tail = onboarding
            return False
        sequence.onboarding = onboarding
        return onboarding is not None

    def _look_ahead(self) -> None:
        for sequence in self.waiting[:_LOOK_AHEAD]:
            if sequence.num_onboardings == 0 and sequence.onboarding is None:
                hits = self._lookup(sequence)
                if sequence.waits_for is None:
                    self._begin_onboarding(sequence, hits, starts_now=False)

    def _make_room(self, sequence: Sequence, hits: list[int], schedule: Schedule) -> bool:
        """Whether `sequence` can start now, after preempting sequences of worse priority if need
        be."""
        num_needed = -(-sequence.reach(self._block_size) // self._block_size) - len(hits)
        while True:
            num_available = self.cache.num_available_blocks - self.cache.num_idle(hits)
            num_reserved = len(self.running)  # each may need its next block soon
            if self._has_slot() and num_needed + num_reserved <= num_available:
                return True
            # With nobody running, blocks that are being saved or fetched are what is in the way.
            victim = max(self.running, key=_rank, default=None)
            if victim is None or victim.rank[0] <= sequence.rank[0]:
                return False
            self._preempt(victim, schedule)

    def _start(
        self, sequence: Sequence, hits: list[int], now: float, early: EarlyStart | None = None
    ) -> None:
        """`hits`: blocks to start with, those that are on their way included."""
        num_named = len(hits) if early is None else len(early.hits)
        self._forget_unused_names(sequence, hits)
        self.cache.acquire(hits)
        self._enter(sequence, list(hits), num_named)
        if early is not None:
            assert sequence.onboarding is not None
            sequence.onboarding.is_taken = True
            self.num_early_starts += 1
        elif sequence.state.first_scheduled_s is None:
            self._note_first_start(sequence, len(hits), now)
        sequence.num_computed = len(hits) * self._block_size
        if sequence.state.writer is not None:
            sequence.state.writer.push_blocks(hits, 0)
        self._fill_up(sequence, num_named)

    def _enter(self, sequence: Sequence, blocks: list[int], num_named: int) -> None:
        """A sequence that holds these blocks joins the running ones."""
        sequence.status = Status.RUNNING
        sequence.slot = self._free_slots.pop()
        self.running.append(sequence)
        self._leave_queue(sequence)
        sequence.blocks = blocks
        sequence.num_named = num_named
        sequence.num_saved = 0
        self.block_tables[sequence.slot, : len(blocks)] = blocks

    def _fill_up(self, sequence: Sequence, num_computed_blocks: int) -> None:
        """Lends a sequence the blocks for what it is going to compute, and says so."""
        reach = sequence.reach(self._block_size)
        while len(sequence.blocks) * self._block_size < reach:
            self._append_block(sequence)
        for name in sequence.hashes[num_computed_blocks : reach // self._block_size]:
            self._being_computed.setdefault(name, sequence)

    def _note_first_start(self, sequence: Sequence, num_hits: int, now: float) -> None:
        state = sequence.state
        self.num_started += 1
        state.first_scheduled_s = now
        num_cached = num_hits * self._block_size
        if self._truncator is not None:
            self._truncator.note_start(sequence)
            num_cached = self._truncator.num_cached_tokens(sequence, num_hits)
        state.num_cached_tokens = min(num_cached, state.num_prompt_tokens)
        self.cache.stats.queries_tokens += state.num_prompt_tokens
        self.cache.stats.hits_tokens += state.num_cached_tokens

    def _append_block(self, sequence: Sequence) -> None:
        block = self.cache.allocate()
        self.block_tables[sequence.slot, len(sequence.blocks)] = block
        sequence.blocks.append(block)

    def _preempt(self, sequence: Sequence, schedule: Schedule) -> None:
        """Back to waiting; what it computed stays cached while room lasts."""
        if sequence in schedule.sequences:
            index = schedule.sequences.index(sequence)
            del schedule.sequences[index], schedule.num_tokens[index]
        self._stop_running(sequence, keep_named=True)
        self._drop_tail(sequence)
        self._wait_again(sequence)
        sequence.state.metrics.num_preemptions += 1
        self.num_preemptions += 1

    def _wait_again(self, sequence: Sequence) -> None:
        sequence.status = Status.WAITING
        sequence.waits_for = None
        self.add(sequence)

    def _leave_names(self, sequence: Sequence) -> None:
        """It does not compute its next blocks any more."""
        for name in sequence.hashes[sequence.num_named :]:
            if self._being_computed.get(name) is sequence:
                del self._being_computed[name]

    def _stop_running(self, sequence: Sequence, keep_named: bool) -> None:
        self._leave_names(sequence)
        if self._landings is not None:
            self._landings.leave(sequence)
        sequence.left += sequence.hashes[sequence.num_dense_blocks : sequence.num_named]
        if keep_named:
            self._save(sequence)
        self.cache.release(sequence.blocks, keep_named)
        if sequence.drafts is not None:
            sequence.drafts.clear()
            sequence.skip = None
        sequence.blocks = []
        sequence.num_named = 0
        sequence.num_computed = 0
        self.running.remove(sequence)
        self._free_slots.append(sequence.slot)
        sequence.slot = -1


def _rank(sequence: Sequence) -> tuple[int, int, int]:
    return sequence.rank
