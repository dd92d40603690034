"""Prompts that this engine computes for peers: the side that prefills.

A job is a sequence without an answer: it is scheduled like any prompt, and its keys and values are
written to the peer's memory layer by layer while they are computed. Blocks that are cached here
are copied there when it starts.
"""

from collections.abc import Callable
from dataclasses import dataclass

from artesian.engine.base import Request, SamplingParams
from artesian.engine.detokenizer import Detokenizer
from artesian.engine.handover import (
    LandingError,
    LandingTicket,
    LandingWriter,
    Placement,
    PrefillDone,
    PrefillJob,
    PrefillOutcome,
)
from artesian.engine.offload import OffloadError
from artesian.engine.residents import Residents
from artesian.engine.scheduler import Scheduler
from artesian.engine.sequence import RequestState, Sequence, Status
from artesian.kvcache.hashing import BlockHasher
from artesian.loader.base import Tokenizer


@dataclass(slots=True)
class PrefillWork:
    """A job under way.

    Attributes:
        writer: where the KV goes; None: it stays.
        arrived_s, deadline_s: of this engine's clock.
    """

    job: PrefillJob
    sequence: Sequence
    writer: LandingWriter | None
    arrived_s: float
    deadline_s: float | None


class PrefillJobs:
    """Jobs of peers in an engine's scheduler.

    Attributes:
        num_never_started: jobs that have ended without a step.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        open_writer: Callable[[LandingTicket], LandingWriter],
        residents: Residents | None,
        make_hasher: Callable[[str], BlockHasher],
        tokenizer: Tokenizer,
        vocab_size: int,
        max_model_len: int,
        clock: Callable[[], float],
        note: Callable[[PrefillJob, list[bytes], int], None],
    ) -> None:
        """`open_writer` raises `LandingError` or `OSError` for a landing that it cannot reach;
        `residents` keep what shall stay here; `note` takes notice of the names that a job leaves
        behind with so many tokens."""
        self.num_never_started = 0
        self._scheduler = scheduler
        self._open_writer = open_writer
        self._residents = residents
        self._make_hasher = make_hasher
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._max_model_len = max_model_len
        self._clock = clock
        self._note = note
        self._work: dict[str, PrefillWork] = {}
        self._done: list[PrefillDone] = []

    @property
    def num_open(self) -> int:
        """Jobs that wait or run."""
        return len(self._work)

    @property
    def is_busy(self) -> bool:
        """Whether anything is to be done or told."""
        return bool(self._work or self._done)

    def add(self, job: PrefillJob, arrival: int) -> None:
        """Queues a job; what cannot be done is told as done with an error. `arrival`: its place
        among all requests of its priority."""
        error = self._fault(job)
        if not error and job.landing is None and self._residents is None:
            error = "no KV of peers can stay here: this worker has no executor"
        if error:
            self._end_unstarted(job, "refused", error)
            return
        try:
            writer = None if job.landing is None else self._open_writer(job.landing)
        except (LandingError, OSError) as problem:
            self._end_unstarted(job, "refused", str(problem))
            return
        now = self._clock()
        sequence = self._sequence(job, arrival, now, writer)
        deadline_s = None if job.timeout_s is None else now + job.timeout_s
        self._work[job.job_id] = PrefillWork(job, sequence, writer, now, deadline_s)
        self._scheduler.add(sequence)

    def cancel(self, job_id: str) -> None:
        """Ends a job; unknown ones are ignored."""
        work = self._work.get(job_id)
        if work is not None:
            self._end(work, "cancelled", "nobody wants it any more")

    def poll(self) -> None:
        """Ends what is late or not wanted any more."""
        now = self._clock()
        for work in list(self._work.values()):
            if work.deadline_s is not None and now >= work.deadline_s:
                self._end(work, "failed", "the deadline of the request is over")
            elif work.writer is not None and not work.writer.is_open:
                self._end(work, "revoked", "the landing was taken back")

    def computed(self, sequence: Sequence) -> None:
        """A job's tokens are computed to their end, and written."""
        work = self._find(sequence)
        if work.writer is None:
            self._stay(work)
        elif work.writer.is_open:
            work.writer.complete()
            self._end(work, "done")
        else:
            self._end(work, "revoked", "the landing was taken back")

    def fail(self, sequence: Sequence, error: str) -> None:
        """The model failed over a job."""
        self._end(self._find(sequence), "failed", error)

    def take_done(self) -> list[PrefillDone]:
        """What has ended since the last call."""
        done, self._done = self._done, []
        return done

    def _find(self, sequence: Sequence) -> PrefillWork:
        return self._work[sequence.state.request.request_id]

    def _fault(self, job: PrefillJob) -> str:
        """Why a job can never be done here; empty if it can."""
        num_tokens = len(job.token_ids)
        if job.job_id in self._work:
            return f"job {job.job_id} is running already"
        if not 2 <= num_tokens <= self._max_model_len:
            return f"{num_tokens} tokens: a job has 2 to {self._max_model_len}"
        if not all(0 <= token < self._vocab_size for token in job.token_ids):
            return f"token ids are below {self._vocab_size}"
        return ""

    def _stay(self, work: PrefillWork) -> None:
        assert self._residents is not None
        sequence = work.sequence
        names = sequence.hashes[: sequence.num_named]
        try:
            placement = self._residents.keep(
                work.job, sequence.blocks, sequence.state.hasher, names
            )
        except OffloadError as problem:
            self._end(work, "refused", str(problem))
            return
        self._end(work, "done", placement=placement)

    def _sequence(
        self, job: PrefillJob, arrival: int, now: float, writer: LandingWriter | None
    ) -> Sequence:
        tokens = job.token_ids[:-1]
        request = Request(
            request_id=job.job_id,
            prompt_token_ids=tokens,
            sampling=SamplingParams(temperature=0),
            priority=job.priority,
            cache_salt=job.cache_salt,
        )
        state = RequestState(request, arrival, now, self._make_hasher(job.cache_salt))
        state.is_job, state.writer = True, writer
        detokenizer = Detokenizer(self._tokenizer, [])
        sequence = Sequence(state, 0, 0, len(tokens), frozenset(), detokenizer)
        state.sequences.append(sequence)
        return sequence

    def _end(
        self,
        work: PrefillWork,
        outcome: PrefillOutcome,
        error: str = "",
        placement: Placement | None = None,
    ) -> None:
        del self._work[work.job.job_id]
        if work.writer is not None:
            work.writer.close()
        sequence = work.sequence
        state = sequence.state
        if sequence.status is not Status.FINISHED:
            names = sequence.hashes[: sequence.num_named]
            self._note(work.job, names, sequence.num_computed)
            self._scheduler.remove(sequence)
        now = self._clock()
        started_s = state.first_scheduled_s
        self.num_never_started += started_s is None
        self._done.append(
            PrefillDone(
                job_id=work.job.job_id,
                outcome=outcome,
                num_cached_tokens=state.num_cached_tokens,
                queue_ms=((now if started_s is None else started_s) - work.arrived_s) * 1e3,
                prefill_ms=0.0 if started_s is None else (now - started_s) * 1e3,
                num_bytes=0 if work.writer is None else work.writer.num_bytes,
                placement=placement,
                error=error,
            )
        )

    def _end_unstarted(self, job: PrefillJob, outcome: PrefillOutcome, error: str) -> None:
        self.num_never_started += 1
        self._done.append(PrefillDone(job_id=job.job_id, outcome=outcome, error=error))
