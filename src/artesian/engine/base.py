"""What goes into the engine and what comes out: also the messages between front and worker."""

from typing import Literal, Protocol

import msgspec

from artesian.attention import SparseAttention
from artesian.config.engine import ContextOverflow
from artesian.engine.handover import Handover
from artesian.engine.questions import Question, Reply

FinishReason = Literal["stop", "length", "abort", "error", "deadline"]


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How the tokens of a request are chosen; names and meanings are vLLM's.

    Attributes:
        n: independent completions of one prompt.
        temperature: 0 is greedy.
        top_k: 0 or -1 keeps all.
        repetition_penalty: over prompt and output, > 1 discourages; presence and frequency over
            output only.
        logit_bias: token id -> added to the logit.
        logprobs: how many alternatives to report beside the chosen token; None for none.
        prompt_logprobs: the same for the tokens of the prompt.
        seed: fixes the choice whatever else runs; None draws one.
        stop: strings that end the text (not part of it unless include_stop_str_in_output).
        max_tokens: None runs to the end of the context.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    skip_special_tokens: bool = True


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One API call as the engine sees it.

    Attributes:
        output_token_ids: tokens that an earlier worker already produced for this request (a retry);
            generation goes on behind them and they are not reported again. Only with n = 1.
        priority: lower runs first; equal priorities in order of arrival.
        timeout_s: seconds from arrival until it is finished as "deadline".
        cache_salt: requests share cached blocks only with the same salt.
        session_id: the conversation that this belongs to, of those with the same salt; "" for none.
        pin_tokens, pin_s: of the prompt so many first tokens are kept in the context cache so long.
        context_overflow: what happens to tokens that outgrow max_model_len; None: as configured.
        attention: how generated tokens attend; None: as configured.
        num_skipped: sublayers that are left out; None: as configured.
    """

    request_id: str
    prompt_token_ids: list[int]
    sampling: SamplingParams
    output_token_ids: list[int] = []
    priority: int = 0
    timeout_s: float | None = None
    cache_salt: str = ""
    session_id: str = ""
    pin_tokens: int = 0
    pin_s: float = 0.0
    context_overflow: ContextOverflow | None = None
    attention: SparseAttention | None = None
    num_skipped: int | None = None


class TokenLogprob(msgspec.Struct, frozen=True):
    """Log probability of one token, natural logarithm."""

    token_id: int
    logprob: float


class OutputLogprobs(msgspec.Struct, frozen=True):
    """The chosen token's log probability and the best alternatives, best first."""

    chosen: TokenLogprob
    top: list[TokenLogprob] = []


class RequestMetrics(msgspec.Struct, kw_only=True):
    """Times of one request in milliseconds, measured in the engine; None until known."""

    queue_ms: float | None = None
    ttft_ms: float | None = None
    prefill_ms: float | None = None
    e2e_ms: float | None = None
    num_preemptions: int = 0


class RequestOutput(msgspec.Struct, kw_only=True):
    """What one step added to one completion of a request.

    Attributes:
        index: which of the n completions.
        token_ids: new tokens of this step; text: new text (may lag behind the tokens until a
            character or a possible stop string is complete).
        finish_reason: set once, on the last output of this completion.
        stop_reason: the stop string or token id that ended it, if one did.
        error: human-readable cause when finish_reason is "error".
        num_truncated_tokens: how many of the oldest tokens are not in the context window any more.
    """

    request_id: str
    index: int = 0
    token_ids: list[int] = []
    text: str = ""
    logprobs: list[OutputLogprobs] | None = None
    prompt_logprobs: list[OutputLogprobs | None] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    error: str | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_truncated_tokens: int = 0
    num_output_tokens: int = 0
    metrics: RequestMetrics = msgspec.field(default_factory=RequestMetrics)


class TierCounts(msgspec.Struct, frozen=True, kw_only=True):
    """A tier of the context cache; all but the two last are counters that only grow.

    Attributes:
        loaded_blocks: blocks that did not have to be computed.
        failed_loads: blocks that were there and could not be had.
        evicted_blocks: by reason: capacity, ttl, deleted (with a session), corrupt.
        save_s: of the threads that save; load_s: of loads once it was their turn.
        used_bytes: of all servers.
    """

    tier: str
    saved_blocks: int = 0
    unsaved_blocks: int = 0
    loaded_blocks: int = 0
    failed_loads: int = 0
    evicted_blocks: dict[str, int] = {}
    saved_bytes: int = 0
    loaded_bytes: int = 0
    save_s: float = 0.0
    load_s: float = 0.0
    used_bytes: int = 0
    capacity_bytes: int = 0


class EngineStats(msgspec.Struct, kw_only=True):
    """A snapshot for /metrics; counters only grow.

    Attributes:
        computed_tokens: rows of all steps: tokens of prompts that were not cached, and decode.
        busy_s: time of these steps.
        draft_rounds: steps of sequences that verified guesses; drafted_tokens: these;
            accepted_tokens: those that were right.
        attention_...: see `artesian.engine.sparse_steps.SparseCounts`.
        skipping_tokens: rows that left out sublayers.
    """

    num_requests_running: int = 0
    num_requests_waiting: int = 0
    kv_cache_usage_ratio: float = 0.0
    num_kv_blocks: int = 0
    prefix_cache_queries_tokens: int = 0
    prefix_cache_hits_tokens: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    num_preemptions: int = 0
    num_steps: int = 0
    computed_tokens: int = 0
    busy_s: float = 0.0
    resident_memory_bytes: int = 0
    context_tiers: list[TierCounts] = []
    context_early_starts: int = 0
    context_rewinds: int = 0
    context_overflows: int = 0
    context_turned_blocks: int = 0
    context_recomputed: int = 0
    draft_rounds: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    attention_sparse_tokens: int = 0
    attention_groups_read: int = 0
    attention_groups_visible: int = 0
    attention_audits: int = 0
    attention_kept_weight: float = 0.0
    attention_estimated_weight: float = 0.0
    skipping_tokens: int = 0


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a started engine is: for the banner, `/v1/models` and checks on requests.

    Attributes:
        model_name: the checkpoint's name.
        vocab_size: token ids are below it.
        description: one line for people: architecture, formats, instruction set, threads.
        phases_ms: start-up phase -> its time, in order (load, pack weights, KV arena, ...).
        memory_plan_bytes: what memory is for (weights, KV blocks, ...) -> planned size.
        context_overflow: what happens by default to tokens that outgrow max_model_len.
        longest_stream: tokens of prompt and output together, dropped ones included, of requests
            that may be truncated; 0 where none may.
        attention: how requests attend that ask for nothing; where one names only a selector, the
            numbers are those of here.
        most_skipped: sublayers that a request may leave out.
    """

    model_name: str
    max_model_len: int
    vocab_size: int
    description: str = ""
    phases_ms: dict[str, float] = {}
    memory_plan_bytes: dict[str, int] = {}
    context_overflow: ContextOverflow = "error"
    longest_stream: int = 0
    attention: SparseAttention = SparseAttention()
    most_skipped: int = 0


class QueueFullError(RuntimeError):
    """The engine's queue is at its limit; try again later (HTTP 429)."""


class InvalidRequestError(ValueError):
    """The request can never run; the message says which value is wrong, what is allowed (400)."""


class Engine(Protocol):
    """One model on one set of threads; not thread-safe: one loop owns it."""

    @property
    def handover(self) -> Handover | None:
        """Prefills by and for other workers; None where the engine has no peers."""

    def add_request(self, request: Request) -> None:
        """Queues a request. Raises `InvalidRequestError` or `QueueFullError`."""

    def abort(self, request_id: str) -> None:
        """Ends a request, freeing its blocks; unknown ids are ignored (it may have finished)."""

    def has_work(self) -> bool:
        """Whether `step` has anything to do."""

    def step(self) -> list[RequestOutput]:
        """Runs one batch and returns what it added; a failing request ends as "error", alone."""

    def stats(self) -> EngineStats:
        """Current counts."""

    def close(self) -> None:
        """Ends what goes on in the background, within a bounded time."""

    def answer(self, question: Question) -> Reply:
        """Answers at once; what that sets off goes on in later steps."""

    def info(self) -> EngineInfo:
        """What this engine is; fixed once it has started."""
