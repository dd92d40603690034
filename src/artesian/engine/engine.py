"""The step loop: schedule, run, sample, report."""

import logging
import math
import random
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq

import msgspec
import numpy as np

from artesian.attention import configured_attention
from artesian.config.engine import EngineConfig
from artesian.context import ContextCache
from artesian.context.policies import Truncation
from artesian.context.sessions import SessionKeeper, SessionKey
from artesian.context.shelf import Shelf
from artesian.engine.answers import Answers
from artesian.engine.approximation import Approximations, SkipChoice
from artesian.engine.base import (
    EngineInfo,
    EngineStats,
    FinishReason,
    InvalidRequestError,
    OutputLogprobs,
    QueueFullError,
    Request,
    RequestOutput,
    TierCounts,
)
from artesian.engine.batch_builder import BatchBuilder
from artesian.engine.detokenizer import Detokenizer
from artesian.engine.drafts import Drafts
from artesian.engine.handover import PrefillJob
from artesian.engine.landings import Landings
from artesian.engine.peers import PeerMemory, Peers
from artesian.engine.prefill_jobs import PrefillJobs
from artesian.engine.progress import advance, flush
from artesian.engine.questions import Question, Reply
from artesian.engine.residents import Residents
from artesian.engine.sampler import F32, Sampled, Sampler, add_prompt_logprobs
from artesian.engine.scheduler import Schedule, Scheduler
from artesian.engine.sequence import RequestState, Sequence, Status, has_answer
from artesian.engine.skip_steps import SkipSteps
from artesian.engine.sparse_steps import SparseSteps
from artesian.engine.speculation import Speculator, ahead
from artesian.engine.truncation import Truncator, open_truncator
from artesian.engine.validation import check_request
from artesian.kvcache.hashing import BlockHasher, KvIdentity
from artesian.kvcache.prefix_cache import PrefixCache, PrefixMiss
from artesian.loader.base import Tokenizer
from artesian.machine import resident_bytes
from artesian.ops.base import TurningRunner

_logger = logging.getLogger(__name__)
_SEED_STRIDE = (
    0x9E3779B97F4A7C15  # keeps the seeds of index 1, 2, ... away from a caller's neighbours
)
_UINT64 = 2**64
_MOST_WAIT_S = 0.05  # for blocks that a tier sends; commands are looked at in between
_PEER_WAIT_S = 1e-3  # for peers, when there is nothing else to do
_CLOSE_S = 5.0
_MIN_PREFILL_TOKENS = 64  # of a step that tells how quick prefill is


class LLMEngine:
    """An `Engine` over any `Runner`. One thread owns it."""

    def __init__(
        self,
        runner: TurningRunner,
        tokenizer: Tokenizer,
        cache: PrefixCache,
        identity: KvIdentity,
        config: EngineConfig,
        info: EngineInfo,
        clock: Callable[[], float] = time.monotonic,
        context: ContextCache | None = None,
        sessions: SessionKeeper | None = None,
        peers: PeerMemory | None = None,
        skips: SkipChoice | None = None,
        speculator: Speculator | None = None,
    ) -> None:
        """`identity.block_size_tokens` is the size of the cache's blocks; `clock` gives seconds;
        `context` keeps blocks of `cache` elsewhere; `sessions` of both are kept while the engine
        lives if nothing else is given; with `peers` prompts are computed by and for others;
        `skips` are the sublayers that requests may leave out; `speculator`
        guesses tokens."""
        block_size = identity.block_size_tokens
        self.tokenizer = tokenizer
        self.config = config
        self.vocab_size = info.vocab_size
        self.max_model_len = info.max_model_len
        self._truncator = open_truncator(config, info.max_model_len, cache, runner, context)
        self._approximations = Approximations(config, skips)
        self._skip_steps = SkipSteps(skips)
        self._sparse_steps = SparseSteps(config.attention_fallback, config.attention_audit_steps)
        self._info = _with_settings(info, config, self._truncator, skips)
        self.cache = cache
        self._runner = runner
        self._identity = identity
        self._clock = clock
        self._random = random.Random(config.seed)
        landings = None
        if peers is not None:
            landings = Landings(cache, peers.pad, peers.placement, block_size, clock, peers.offload)
        self._scheduler = Scheduler(
            cache,
            block_size,
            config.max_num_seqs,
            config.max_num_batched_tokens,
            info.max_model_len,
            keep_finished=config.enable_prefix_caching,
            context=context,
            truncator=self._truncator,
            landings=landings,
            speculator=speculator,
        )
        self._speculator = speculator
        self._context = context
        self._sessions = sessions or SessionKeeper(cache, context)
        truncator = self._truncator if config.context_overflow == "truncate" else None
        self._answers = Answers(
            cache, self._scheduler, self._sessions, context, identity, truncator
        )
        self._builder = BatchBuilder(
            config.max_num_batched_tokens, block_size, self._scheduler.block_tables
        )
        self._sampler = Sampler()
        self._requests: dict[str, RequestState] = {}
        self._num_arrived = 0
        self._num_never_started = 0
        self._next_deadline_s = math.inf
        self._unreported: list[RequestOutput] = []
        self._stats = EngineStats(num_kv_blocks=cache.num_blocks)
        self.handover: Peers | None = None
        if peers is not None and landings is not None:
            self.handover = self._join(peers, landings)

    @property
    def runner(self) -> TurningRunner:
        """What computes; the engine alone runs it."""
        return self._runner

    @property
    def speculator(self) -> Speculator | None:
        """What guesses tokens; None: nobody does."""
        return self._speculator

    @property
    def num_free_places(self) -> int:
        """Requests that `add_request` would take now before the queue is full."""
        return self.config.max_queue_len + self._scheduler.num_free_slots - self._num_queued

    @property
    def _num_queued(self) -> int:
        """Requests none of whose sequences has run yet."""
        num_never_started = self._num_never_started
        if self.handover is not None:
            num_never_started += self.handover.jobs.num_never_started
        return self._num_arrived - self._scheduler.num_started - num_never_started

    def add_request(self, request: Request) -> None:
        """Queues a request. Raises `InvalidRequestError` or `QueueFullError`."""
        self.check_request(request)
        if request.request_id in self._requests:
            raise InvalidRequestError(f"request_id {request.request_id!r} is already running")
        if self.num_free_places <= 0:
            raise QueueFullError(
                f"{self.config.max_queue_len} requests are waiting already (max_queue_len); "
                "try again later"
            )
        state = self._new_state(request)
        self._requests[request.request_id] = state
        self._stats.prompt_tokens += state.num_prompt_tokens
        if state.deadline_s is not None:
            self._next_deadline_s = min(self._next_deadline_s, state.deadline_s)
        for sequence in state.sequences:
            finished = None
            for token_id in request.output_token_ids:
                finished = advance(sequence, token_id)
            self._scheduler.add(sequence)
            if finished is not None and finished.finish_reason is not None:
                self._unreported.append(self._finish(sequence, finished.finish_reason))
        if _logger.isEnabledFor(logging.DEBUG):
            miss = self.explain_prefix(request.prompt_token_ids, request.cache_salt)
            _logger.debug("request %s: prefix cache: %s", request.request_id, miss)

    def check_request(self, request: Request) -> None:
        """Raises `InvalidRequestError` when `request` can never run here."""
        check_request(request, self.vocab_size, self.max_model_len, self._cuts(request))
        self._approximations.of(request)

    def abort(self, request_id: str) -> None:
        """Ends a request, freeing its blocks; unknown ids are ignored (it may just have finished).

        The next `step` reports it as finished by "abort".
        """
        self._end_request(request_id, "abort")

    def has_work(self) -> bool:
        """Whether `step` has anything to do."""
        is_asked = self.handover is not None and self.handover.is_busy
        return bool(self._requests or self._unreported or self._sessions.is_busy or is_asked)

    def answer(self, question: Question) -> Reply:
        """Answers at once; deletions go on in later steps."""
        return self._answers.answer(question)

    def step(self) -> list[RequestOutput]:
        """Runs one batch and returns what it added. A failing request is finished as "error",
        alone."""
        now = self._clock()
        if now >= self._next_deadline_s:
            self._expire(now)
        if self._context is not None:
            self._context.poll()
        self._sessions.poll()
        if self.handover is not None:
            self.handover.poll()
        schedule = self._scheduler.schedule(now)
        outputs, self._unreported = self._unreported, []
        if schedule.sequences:
            self._stats.num_steps += 1
            self._sparse_steps.plan(schedule)
            first = 0 if self._context is None else _mean_first(schedule)
            self._run(schedule, outputs)
            seconds = self._clock() - now
            self._stats.computed_tokens += sum(schedule.num_tokens)
            self._count_skipping(schedule)
            self._stats.busy_s += seconds
            if self._speculator is not None:
                self._speculator.observe(seconds)
            if self._context is not None:
                self._observe(self._context, schedule, first, seconds)
        elif self._context is not None and not outputs and self._context.is_busy:
            self._context.wait(_MOST_WAIT_S)
        elif self.handover is not None and self.handover.is_busy and not outputs:
            time.sleep(_PEER_WAIT_S)
        return outputs

    def close(self) -> None:
        """Lets what is being saved come to its end, for a bounded time."""
        if self._context is not None:
            self._context.close(_CLOSE_S)
        self._sessions.close(_CLOSE_S)
        if self.handover is not None:
            self.handover.close()

    def stats(self) -> EngineStats:
        """Current counts."""
        stats = self._stats
        stats.num_requests_waiting = self._num_queued
        num_jobs = 0 if self.handover is None else self.handover.jobs.num_open
        stats.num_requests_running = len(self._requests) + num_jobs - self._num_queued
        stats.kv_cache_usage_ratio = self.cache.num_used_blocks / self.cache.num_blocks
        stats.prefix_cache_queries_tokens = self.cache.stats.queries_tokens
        stats.prefix_cache_hits_tokens = self.cache.stats.hits_tokens
        stats.num_preemptions = self._scheduler.num_preemptions
        if self._context is not None:
            stats.context_tiers = [_count_tier(shelf) for shelf in self._context.shelves]
        stats.context_early_starts = self._scheduler.num_early_starts
        stats.context_rewinds = self._scheduler.num_rewinds
        if self._truncator is not None:
            stats.context_overflows = self._truncator.stats.num_overflows
            stats.context_turned_blocks = self._truncator.stats.num_turned_blocks
            stats.context_recomputed = self._truncator.stats.num_recomputed
        if self._speculator is not None:
            stats.draft_rounds = self._speculator.stats.num_rounds
            stats.drafted_tokens = self._speculator.stats.num_drafted
            stats.accepted_tokens = self._speculator.stats.num_accepted
        sparse = self._sparse_steps.counts
        stats.attention_sparse_tokens = sparse.tokens
        stats.attention_groups_read = sparse.groups_read
        stats.attention_groups_visible = sparse.groups_visible
        stats.attention_audits = sparse.audits
        stats.attention_kept_weight = sparse.kept_weight
        stats.attention_estimated_weight = sparse.estimated_weight
        stats.resident_memory_bytes = resident_bytes()
        return msgspec.structs.replace(stats)

    def info(self) -> EngineInfo:
        """What this engine is; fixed once it has started."""
        return self._info

    def _count_skipping(self, schedule: Schedule) -> None:
        pairs = zip(schedule.sequences, schedule.num_tokens, strict=True)
        self._stats.skipping_tokens += sum(num for sequence, num in pairs if sequence.skip)

    def explain_prefix(self, prompt_token_ids: Seq[int], cache_salt: str = "") -> PrefixMiss:
        """Which block of a prompt is the first that is not cached now, and why."""
        hashes: list[bytes] = []
        BlockHasher(self._identity, cache_salt).extend(hashes, np.array(prompt_token_ids, np.int32))
        return self.cache.explain_miss(hashes)

    def _cuts(self, request: Request) -> Truncation | None:
        """Where the request's tokens are cut; None if they must fit into the window."""
        if (request.context_overflow or self.config.context_overflow) == "error":
            return None
        if self._truncator is None:
            raise InvalidRequestError(
                f"context_overflow is truncate, but max_model_len ({self.max_model_len}) with "
                f"context_sinks ({self.config.context_sinks}) leaves no two blocks to truncate"
            )
        return self._truncator.cuts

    def _next_arrival(self) -> int:
        self._num_arrived += 1
        return self._num_arrived

    def _hasher(self, salt: str) -> BlockHasher:
        if not self.config.enable_prefix_caching:  # a salt of its own: only its n sequences share
            salt = f"{salt}\0{self._num_arrived}"
        return BlockHasher(self._identity, salt)

    def _join(self, peers: PeerMemory, landings: Landings) -> Peers:
        residents = None
        if peers.executor is not None:
            size = self._identity.block_size_tokens
            residents = Residents(
                self.cache,
                peers.executor,
                peers.pad.name,
                size,
                self._clock,
                self._save,
                self._note_job,
            )
        jobs = PrefillJobs(
            self._scheduler,
            peers.open_writer,
            residents,
            self._hasher,
            self.tokenizer,
            self.vocab_size,
            self.max_model_len,
            self._clock,
            self._note_job,
        )
        return Peers(jobs, landings, residents, self._next_arrival, peers.close)

    def _note_job(self, job: PrefillJob, names: list[bytes], num_tokens: int) -> None:
        """What a peer's job leaves in the cache belongs to the session that it was for."""
        if job.session_id and names and self.config.enable_prefix_caching:
            key = SessionKey.of(job.cache_salt, job.session_id)
            self._sessions.note(key, names, num_tokens)

    def _save(self, names: list[bytes], blocks: list[int], first: int) -> None:
        if self._context is not None:
            self._context.save(names, blocks, first)

    def _new_state(self, request: Request) -> RequestState:
        arrival = self._next_arrival()
        cuts = self._cuts(request)
        hasher = self._hasher(request.cache_salt)
        state = RequestState(
            request,
            arrival,
            self._clock(),
            hasher,
            truncates=cuts is not None,
            approximation=self._approximations.of(request),
        )
        sampling = request.sampling
        seed = sampling.seed if sampling.seed is not None else self._random.getrandbits(64)
        max_tokens = self.max_model_len
        if cuts is not None:
            max_tokens = cuts.most_tokens(state.num_prompt_tokens, sampling.max_tokens)
        elif sampling.max_tokens is not None:
            max_tokens = min(max_tokens, state.num_prompt_tokens + sampling.max_tokens)
        stop_token_ids = frozenset(sampling.stop_token_ids)
        if not sampling.ignore_eos:
            stop_token_ids |= self.tokenizer.eos_token_ids
        for index in range(sampling.n):
            detokenizer = Detokenizer(
                self.tokenizer, request.prompt_token_ids, sampling.skip_special_tokens
            )
            sequence_seed = (seed + index * _SEED_STRIDE) % _UINT64
            sequence = Sequence(
                state, index, sequence_seed, max_tokens, stop_token_ids, detokenizer
            )
            if self._speculator is not None and state.kind.is_exact:
                acceptance = self._speculator.new_acceptance()
                sequence.drafts = Drafts(self._speculator.draft, acceptance)
            state.sequences.append(sequence)
        return state

    def _run(self, schedule: Schedule, outputs: list[RequestOutput]) -> None:
        """Runs one batch; if the runner refuses it, each sequence alone, to find the one to
        blame."""
        try:
            self._skip_steps.plan(schedule)
            batch = self._builder.build(schedule)
            logits = self._runner.forward(batch)
            self._sparse_steps.observe(schedule, batch.reports)
            for index in batch.failed:
                place = schedule.sequences[index].place
                assert place is not None
                place.is_lost = True
        except Exception as error:
            if len(schedule.sequences) == 1:
                _logger.exception(
                    "request %s failed", schedule.sequences[0].state.request.request_id
                )
                outputs += self._fail(schedule.sequences[0], f"the model failed: {error}")
                return
            for sequence, num_tokens in zip(schedule.sequences, schedule.num_tokens, strict=True):
                alone = Schedule([sequence], [num_tokens], schedule.timeout_s, schedule.audits)
                self._run(alone, outputs)
            return
        if self._context is not None and batch.gates:
            self._context.poll()
        sequences, logits = self._take_computed(schedule, logits)
        if not sequences:
            return
        if self._speculator is not None and (places := ahead(sequences)) is not None:
            sampled = self._sampler.sample(logits, sequences, places)
            self._end_rows(self._speculator, sequences, sampled, outputs)
            return
        sampled = self._sampler.sample(logits, sequences)
        now = self._clock()
        for row, sequence in enumerate(sequences):
            outputs += self._answer(sequence, sampled, row, now)

    def _answer(
        self, sequence: Sequence, sampled: Sampled, row: int, now: float
    ) -> list[RequestOutput]:
        """What the token chosen from a row changes."""
        if row in sampled.failed:
            return self._fail(sequence, "the model gave logits that are not numbers")
        logprobs = None if sampled.logprobs is None else sampled.logprobs[row]
        return self._report(sequence, sampled.tokens[row], logprobs, now)

    def _end_rows(
        self,
        speculator: Speculator,
        sequences: list[Sequence],
        sampled: Sampled,
        outputs: list[RequestOutput],
    ) -> None:
        """As `_answer` for each row, where some are drafts and some verify these: several steps at
        once, up to the first one that was guessed wrongly."""
        now = self._clock()
        row = 0
        while row < len(sequences):
            sequence = sequences[row]
            drafts = sequence.drafts
            if drafts is not None and drafts.is_drafting:
                token_id = None if row in sampled.failed else sampled.tokens[row]
                speculator.drafted(sequence, token_id)
                row += 1
                continue
            guesses = speculator.take(sequence)
            if not guesses:
                outputs += self._answer(sequence, sampled, row, now)
                row += 1
                continue
            num_right = 0
            for offset, guess in enumerate([*guesses, None]):
                self._scheduler.computed(sequence, 1)
                outputs += self._answer(sequence, sampled, row + offset, now)
                is_right = sampled.tokens[row + offset] == guess
                num_right += is_right
                if not is_right or sequence.status is Status.FINISHED:
                    break
            speculator.verified(sequence, len(guesses), num_right)
            row += len(guesses) + 1

    def _observe(
        self, context: ContextCache, schedule: Schedule, first: int, seconds: float
    ) -> None:
        num_tokens = sum(schedule.num_tokens)
        is_prefill = 2 * len(schedule.sequences) < num_tokens
        has_waited = schedule.timeout_s > 0
        if num_tokens >= _MIN_PREFILL_TOKENS and is_prefill and seconds > 0 and not has_waited:
            context.observe_prefill(num_tokens, seconds, first)

    def _take_computed(self, schedule: Schedule, logits: F32) -> tuple[list[Sequence], F32]:
        """Books the rows as computed; returns the sequences to sample for and their logits."""
        sequences: list[Sequence] = []
        rows: list[int] = []
        row = 0
        for sequence, num_tokens in zip(schedule.sequences, schedule.num_tokens, strict=True):
            start = sequence.num_computed
            if sequence.drafts is not None and sequence.drafts.is_open:
                sequences += [sequence] * num_tokens
                rows += range(row, row + num_tokens)
                row += num_tokens
                continue
            if not self._scheduler.settle(sequence):
                row += int(start + num_tokens == sequence.num_tokens)
                continue
            self._skip_steps.observe(schedule, sequence)
            self._scheduler.computed(sequence, num_tokens)
            if self.handover is not None and sequence.state.is_job:
                if sequence.num_computed == sequence.num_tokens:
                    self.handover.jobs.computed(sequence)
                continue
            is_complete = has_answer(sequence, sequence.num_computed)
            num_rows = int(is_complete)
            if sequence.needs_prompt_logprobs:
                num_rows = num_tokens
                add_prompt_logprobs(sequence, start, logits[row : row + num_rows])
            row += num_rows
            if is_complete:
                sequences.append(sequence)
                rows.append(row - 1)
        return sequences, logits if len(rows) == row else logits[rows]

    def _report(
        self, sequence: Sequence, token_id: int, logprobs: OutputLogprobs | None, now: float
    ) -> list[RequestOutput]:
        """Adds a token to a sequence and says what that changed."""
        state = sequence.state
        metrics = state.metrics
        if metrics.ttft_ms is None:
            assert state.first_scheduled_s is not None
            metrics.ttft_ms = (now - state.arrival_s) * 1e3
            metrics.queue_ms = (state.first_scheduled_s - state.arrival_s) * 1e3
            metrics.prefill_ms = (now - state.first_scheduled_s) * 1e3
        try:
            progress = advance(sequence, token_id)
        except Exception as error:
            _logger.exception("request %s failed", state.request.request_id)
            return self._fail(sequence, f"the token {token_id} has no text: {error}")
        self._stats.generation_tokens += 1
        output = self._output(sequence)
        output.token_ids = [token_id]
        output.text = progress.text
        if logprobs is not None:
            output.logprobs = [logprobs]
        if progress.finish_reason is not None:
            self._end(sequence)
            output.finish_reason = progress.finish_reason
            output.stop_reason = progress.stop_reason
        return [output]

    def _output(self, sequence: Sequence) -> RequestOutput:
        state = sequence.state
        output = RequestOutput(
            request_id=state.request.request_id,
            index=sequence.index,
            num_prompt_tokens=state.num_prompt_tokens,
            num_cached_tokens=state.num_cached_tokens,
            num_truncated_tokens=len(sequence.dropped),
            num_output_tokens=sequence.num_output_tokens,
            metrics=state.metrics,
        )
        if sequence.prompt_logprobs is not None and not sequence.needs_prompt_logprobs:
            output.prompt_logprobs, sequence.prompt_logprobs = sequence.prompt_logprobs, None
        return output

    def _fail(self, sequence: Sequence, error: str) -> list[RequestOutput]:
        if self.handover is not None and sequence.state.is_job:
            self.handover.jobs.fail(sequence, error)
            return []
        output = self._finish(sequence, "error")
        output.error = error
        return [output]

    def _finish(self, sequence: Sequence, reason: FinishReason) -> RequestOutput:
        """Ends a sequence other than by a token of its own; text held back is shown."""
        self._end(sequence)
        output = self._output(sequence)
        output.finish_reason = reason
        output.text = flush(sequence)
        return output

    def _note_session(self, sequence: Sequence) -> None:
        """What a request with a session leaves in the cache belongs to the session."""
        request = sequence.state.request
        if not sequence.num_named or not self.config.enable_prefix_caching:
            return
        names = sequence.left + sequence.hashes[: sequence.num_named]
        if request.session_id:
            key = SessionKey.of(request.cache_salt, request.session_id)
            self._sessions.note(key, names, sequence.num_stream_tokens)
        num_pinned = request.pin_tokens // self._identity.block_size_tokens
        if request.pin_s > 0 and num_pinned:
            pinned = names[:num_pinned]
            session_id = request.session_id or f"pin-{pinned[-1].hex()[:16]}"
            key = SessionKey.of(request.cache_salt, session_id)
            self._sessions.pin(key, pinned, request.pin_s)

    def _end(self, sequence: Sequence) -> None:
        self._note_session(sequence)
        self._scheduler.remove(sequence)
        state = sequence.state
        if all(other.status is Status.FINISHED for other in state.sequences):
            state.metrics.e2e_ms = (self._clock() - state.arrival_s) * 1e3
            self._num_never_started += state.first_scheduled_s is None
            del self._requests[state.request.request_id]

    def _end_request(self, request_id: str, reason: FinishReason) -> None:
        state = self._requests.get(request_id)
        if state is not None:
            for sequence in state.sequences:
                if sequence.status is not Status.FINISHED:
                    self._unreported.append(self._finish(sequence, reason))

    def _expire(self, now: float) -> None:
        """Ends what is past its deadline; works out when to look again."""
        self._next_deadline_s = math.inf
        for request_id, state in list(self._requests.items()):
            if state.deadline_s is None:
                continue
            if state.deadline_s <= now:
                self._end_request(request_id, "deadline")
            else:
                self._next_deadline_s = min(self._next_deadline_s, state.deadline_s)


def _mean_first(schedule: Schedule) -> int:
    """Where one prompt would begin whose tokens attend to as many as these do on average."""
    num_tokens = sum(schedule.num_tokens)
    pairs = sum(
        num * (sequence.num_computed + num / 2)
        for sequence, num in zip(schedule.sequences, schedule.num_tokens, strict=True)
    )
    return max(0, round(pairs / num_tokens - num_tokens / 2))


def _count_tier(shelf: Shelf) -> TierCounts:
    tier, stats = shelf.tier, shelf.stats
    return TierCounts(
        tier=tier.label,
        saved_blocks=stats.num_saved_blocks,
        unsaved_blocks=stats.num_unsaved_blocks,
        loaded_blocks=stats.num_loaded_blocks,
        failed_loads=stats.num_failed_loads,
        evicted_blocks={str(reason): num for reason, num in stats.num_evicted.items()},
        saved_bytes=stats.num_saved_blocks * tier.block_bytes,
        loaded_bytes=stats.num_loaded_blocks * tier.block_bytes,
        save_s=stats.save_s,
        load_s=stats.load_s,
        used_bytes=tier.used_bytes,
        capacity_bytes=tier.capacity_bytes,
    )


def _with_settings(
    info: EngineInfo,
    config: EngineConfig,
    truncator: Truncator | None,
    skips: SkipChoice | None,
) -> EngineInfo:
    return msgspec.structs.replace(
        info,
        context_overflow=config.context_overflow,
        longest_stream=0 if truncator is None else truncator.cuts.longest_stream,
        attention=configured_attention(config),
        most_skipped=0 if skips is None else skips.most,
    )
