"""The toy engine with peers: it has prompts of 20 tokens or more computed elsewhere.

A peer's prompt takes a step for every 10 tokens. What came from a peer counts as cached, all but
the last token, so that clients see how a prompt was computed.
"""

import os
from collections.abc import Sequence

from artesian.config import EngineConfig, ServerConfig
from artesian.engine.base import Request, RequestOutput
from artesian.engine.handover import PrefillDone, PrefillJob, Unwanted
from tests.worker import toy

LONG_TOKENS = 20
TOKENS_A_STEP = 10


class ToyHandover:
    def __init__(self, engine: "ToyPeerEngine") -> None:
        self._engine = engine
        self.num_peers = 0
        self.steps_left: dict[str, int] = {}
        self.jobs: dict[str, PrefillJob] = {}
        self.waiting: dict[str, Request] = {}
        self._done: list[PrefillDone] = []
        self._wanted: list[PrefillJob] = []
        self._unwanted: list[str] = []
        self.dead_regions: list[str] = []
        self._number = 0

    @property
    def is_busy(self) -> bool:
        return bool(self.jobs or self._done or self._wanted or self._unwanted)

    def want(self, request: Request) -> None:
        self._number += 1
        job_id = f"{os.getpid()}-{self._number}"
        self.waiting[job_id] = request
        self._wanted.append(
            PrefillJob(
                job_id=job_id,
                request_id=request.request_id,
                token_ids=request.prompt_token_ids,
                timeout_s=request.timeout_s,
            )
        )

    def abort(self, request_id: str) -> None:
        for job_id, request in list(self.waiting.items()):
            if request.request_id == request_id:
                del self.waiting[job_id]
                self._unwanted.append(job_id)

    def step(self) -> None:
        for job_id in list(self.jobs):
            self.steps_left[job_id] -= 1
            if self.steps_left[job_id] <= 0:
                self._end(job_id, PrefillDone(job_id=job_id, outcome="done", prefill_ms=1.0))

    def _end(self, job_id: str, done: PrefillDone) -> None:
        if self.jobs.pop(job_id, None) is not None:
            self._done.append(done)

    def add_job(self, job: PrefillJob) -> None:
        self.jobs[job.job_id] = job
        self.steps_left[job.job_id] = len(job.token_ids) // TOKENS_A_STEP

    def cancel_job(self, job_id: str, token_ids: Sequence[int] = ()) -> None:
        self._end(job_id, PrefillDone(job_id=job_id, outcome="cancelled"))

    def take_done(self) -> list[PrefillDone]:
        done, self._done = self._done, []
        return done

    def take_wanted(self) -> list[PrefillJob]:
        wanted, self._wanted = self._wanted, []
        return wanted

    def take_unwanted(self) -> list[Unwanted]:
        unwanted, self._unwanted = self._unwanted, []
        return [Unwanted(job_id, []) for job_id in unwanted]

    def end_job(self, done: PrefillDone) -> None:
        request = self.waiting.pop(done.job_id, None)
        if request is not None:
            if done.outcome == "done":
                self._engine.from_peers.add(request.request_id)
            self._engine.waiting.append(request)

    def set_peers(self, num_prefill: int) -> None:
        self.num_peers = num_prefill

    def end_peer(self, region: str) -> None:
        self.dead_regions.append(region)


class ToyPeerEngine(toy.ToyEngine):
    def __init__(self, config: EngineConfig, step_s: float) -> None:
        super().__init__(config, step_s)
        self.peers = ToyHandover(self)
        self.from_peers: set[str] = set()
        self.handover = self.peers

    def add_request(self, request: Request) -> None:
        super().add_request(request)
        is_long = len(request.prompt_token_ids) >= LONG_TOKENS
        if is_long and self.peers.num_peers and not request.output_token_ids:
            self.waiting.remove(request)
            self.peers.want(request)

    def abort(self, request_id: str) -> None:
        super().abort(request_id)
        self.peers.abort(request_id)

    def has_work(self) -> bool:
        return super().has_work() or self.peers.is_busy

    def step(self) -> list[RequestOutput]:
        self.peers.step()
        outputs = super().step()
        for output in outputs:
            is_from_peer = output.request_id in self.from_peers
            output.num_cached_tokens = output.num_prompt_tokens - 1 if is_from_peer else 0
        return outputs


def create_engine(config: EngineConfig) -> ToyPeerEngine:
    """As `tests.worker.toy.create_engine`."""
    plain = toy.create_engine(config)
    return ToyPeerEngine(config, plain.step_s)


def create_tokenizer(engine: EngineConfig, server: ServerConfig) -> toy.ToyTokenizer:
    """As a front makes it."""
    return toy.create_tokenizer(engine.model)
