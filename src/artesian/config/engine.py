"""Settings of the engine."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from artesian.config.sizes import Size

ContextOverflow = Literal["error", "truncate"]


class EngineConfig(BaseModel):
    """How a worker runs its model. Names are vLLM's where vLLM has one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="GGUF file, Hugging Face directory, or hub id")
    num_threads: int | None = Field(
        None, ge=1, le=1024, description="kernel threads; default: the CPUs this process may use"
    )
    max_model_len: Size | None = Field(
        None,
        ge=1,
        description="longest prompt plus output in tokens; "
        "default: the model's, or what memory allows",
    )
    max_num_seqs: Size = Field(64, ge=1, le=4096, description="sequences that run at once")
    max_num_batched_tokens: Size = Field(
        1024,
        ge=1,
        le=65536,
        description="tokens of one step: decode first, the rest for chunked prefill",
    )
    max_queue_len: Size = Field(256, ge=1, description="requests that may wait; more get HTTP 429")
    block_size: int = Field(32, description="tokens of a KV block")
    kv_cache_dtype: Literal["auto", "f32", "f16", "bf16", "int8"] = Field(
        "auto", description="how KV is stored; auto is bf16 where the CPU computes in it, else f16"
    )
    kv_cache_memory_bytes: Size | None = Field(
        None, ge=1 << 20, description="memory for KV blocks; default: planned from the memory limit"
    )
    memory_limit_bytes: Size | None = Field(
        None,
        ge=64 << 20,
        description="memory that the worker plans with; default: what this process may use",
    )
    kv_region: str | None = Field(
        None,
        pattern="^[A-Za-z0-9_-]{1,61}$",
        description="shared memory for KV blocks, which other workers can write to; the keeper of "
        "a cluster sets it; default: memory of its own",
    )
    offload: bool = Field(
        False,
        description="in a cluster: workers that prefill attend for some of the sequences of those "
        "that decode",
    )
    offload_ratio: float | None = Field(
        None,
        ge=0,
        description="such sequences for each other one; default: as many as are hidden behind it",
    )
    offload_profile: Path | None = Field(
        None,
        description="file of `artesian profile`: what executors may take beside prompts, and how "
        "much is offloaded, follow from it and offload_ttft_ms; default: half, and even",
    )
    offload_ttft_ms: float | None = Field(
        None,
        gt=0,
        description="time in which a prompt of one full step must be computed beside an executor",
    )
    enable_prefix_caching: bool = Field(True, description="reuse the KV of equal prompt beginnings")
    context_cache_dir: Path | None = Field(
        None,
        description="directory where the KV of prompts is kept over restarts, and shared by the "
        "servers of this host; default: nowhere",
    )
    context_cache_bytes: Size = Field(
        10 << 30, ge=1 << 20, description="most bytes in context_cache_dir"
    )
    context_pool: str | None = Field(
        None,
        description="memory pool (shm://NAME) where the KV of prompts is kept for the servers of "
        "this host, quicker than a directory; made if it is not there, and left when the server "
        "ends; default: none",
    )
    context_pool_bytes: Size = Field(
        1 << 30, ge=16 << 20, description="most bytes of KV in context_pool"
    )
    context_remote_pool: str | None = Field(
        None, description="a second pool, asked after context_pool; default: none"
    )
    context_remote_pool_bytes: Size = Field(
        1 << 30, ge=16 << 20, description="most bytes of KV in context_remote_pool"
    )
    context_eviction: Literal["adaptive", "leaf-first-lru", "queue-aware"] = Field(
        "adaptive",
        description="which blocks leave a full tier: those used longest ago, those that no waiting "
        "request needs, or whichever of the two has been missed less",
    )
    context_ttl_s: float | None = Field(
        None, gt=0, description="seconds after which blocks that nobody uses go; default: never"
    )
    context_pin_share: float = Field(
        0.25, ge=0, le=0.9, description="part of each tier, at most, that requests may pin"
    )
    context_cache_write: Literal["through", "selective", "back"] = Field(
        "through",
        description="when a slower tier gets KV: through: with the quickest one; selective: when a "
        "second prompt begins with it; back: when the quicker tier must make room",
    )
    context_cache_compression: Literal["none", "zstd", "int8"] = Field(
        "none",
        description="KV in context_cache_dir: zstd is smaller and exact; int8 is half the size, "
        "rounded, and kept apart from exact KV",
    )
    session_ttl_s: float | None = Field(
        None,
        gt=0,
        description="seconds after which a session that nobody uses is deleted with its KV; "
        "default: never",
    )
    context_overflow: ContextOverflow = Field(
        "error",
        description="what outgrows max_model_len: error refuses prompts and ends answers; "
        "truncate drops the oldest half and keeps the KV of the rest",
    )
    context_sinks: Size = Field(
        4,
        ge=0,
        description="first tokens that truncation keeps, rounded up to blocks: a few as attention "
        "sinks, or a system prompt",
    )
    attention: Literal["dense", "progressive", "top-k", "top-p", "window"] = Field(
        "dense",
        description="what generated tokens attend to, unless a request says otherwise: everything; "
        "blocks of tokens in order of importance until enough of the weight is there; the most "
        "important ones, a fixed number or by estimated weight; the first and the latest",
    )
    attention_epsilon: float = Field(
        0.95,
        gt=0,
        le=1,
        description="progressive, top-p: part of the attention weight that is enough",
    )
    attention_budget_tokens: Size = Field(
        0,
        ge=0,
        description="most tokens that one attends to; top-k, window: how many; 0: no limit",
    )
    attention_dense_layers: Size = Field(
        0, ge=0, description="so many first layers attend to everything"
    )
    attention_min_context_tokens: Size = Field(
        1024, ge=0, description="behind fewer tokens than that one attends to everything"
    )
    attention_fallback: Literal["length", "adaptive"] = Field(
        "adaptive",
        description="when else to attend to everything: adaptive: where a sequence's tokens have "
        "been seen to read nearly all anyhow",
    )
    attention_summaries: bool | None = Field(
        None,
        description="keep summaries of keys beside the KV, so that requests may ask for sparse "
        "attention; default: if attention is not dense",
    )
    attention_audit_steps: Size = Field(
        0,
        ge=0,
        description="every so many steps the attention weight that was really kept is measured, "
        "which costs a dense look at all keys; 0: never",
    )
    speculate: Literal["off", "window", "top-k", "top-p", "progressive", "skip"] = Field(
        "off",
        description="guess tokens with attention that sees a part of the context, or (skip) with "
        "sublayers left out, and have the full model verify several at once: the same answers, "
        "sooner where contexts are long",
    )
    speculate_tokens: int = Field(
        8, ge=1, le=64, description="most tokens guessed ahead; how many pay is measured"
    )
    speculate_budget_tokens: Size = Field(
        256, ge=32, description="tokens of the context that guesses see at most"
    )
    speculate_skipped: Size = Field(
        0, ge=0, description="sublayers that guesses leave out, of those that skip knows"
    )
    skip: Path | None = Field(
        None,
        description="file of artesian calibrate for this model: requests may leave out sublayers; "
        "default: none may",
    )
    num_skipped: Size = Field(
        0, ge=0, description="sublayers that requests leave out that do not say how many"
    )
    skip_alpha: float | None = Field(
        None,
        ge=1,
        lt=2,
        description="instead of num_skipped: AdaSkip's alpha, the speed-up if all sublayers cost "
        "the same and nothing else did",
    )
    skip_loss_nats: float | None = Field(
        None,
        ge=0,
        description="instead of num_skipped: the most extra loss a token, in nats, as the "
        "calibration has measured it",
    )
    skip_speed_up: float | None = Field(
        None,
        ge=1,
        description="instead of num_skipped: how many times as fast a decode step behind 4,096 "
        "tokens is to be, by the calibration's times",
    )
    skip_watched_tokens: Size = Field(
        0,
        ge=0,
        le=1024,
        description="so many first generated tokens are watched, to leave out the FFNs behind them "
        "that change them little: AdaSkip's 20; KV behind the prompt is not shared then; 0: none",
    )
    skip_selection: Literal["similar", "gain-per-cost"] = Field(
        "similar",
        description="which sublayers go first: those that change their input least, or those that "
        "save most time for what they change",
    )
    quantization: Literal["int8"] | None = Field(
        None, description="int8: round weights to INT8 with one scale for each output channel"
    )
    seed: int | None = Field(None, description="seed of requests that bring none; default: random")
    isa: Literal["portable", "avx2", "avx512", "avx512bf16", "amx"] | None = Field(
        None, description="instruction set of the kernels; default: the best this CPU has"
    )

    @model_validator(mode="after")
    def _check_offload(self) -> Self:
        if (self.offload_profile is None) != (self.offload_ttft_ms is None):
            raise ValueError("offload_profile and offload_ttft_ms need each other")
        if self.offload_profile is not None and not self.offload:
            raise ValueError("offload_profile is for offload: set that too")
        return self

    @property
    def has_summaries(self) -> bool:
        """Whether KV blocks carry summaries of their keys."""
        if self.attention_summaries is None:
            return self.attention != "dense" or self.speculate not in ("off", "window", "skip")
        return self.attention_summaries

    @model_validator(mode="after")
    def _check_attention(self) -> Self:
        if self.attention in ("top-k", "window") and not self.attention_budget_tokens:
            raise ValueError(f"attention {self.attention} needs attention_budget_tokens")
        if self.attention != "dense" and not self.has_summaries:
            raise ValueError(f"attention {self.attention} needs attention_summaries")
        if self.speculate not in ("off", "window", "skip") and not self.has_summaries:
            raise ValueError(f"speculate {self.speculate} needs attention_summaries")
        return self

    @model_validator(mode="after")
    def _check_skip(self) -> Self:
        targets = ("num_skipped", "skip_alpha", "skip_loss_nats", "skip_speed_up")
        wanted = [name for name in targets if getattr(self, name)]
        if wanted and self.skip is None:
            raise ValueError(f"{wanted[0]} needs skip, the file of artesian calibrate")
        if len(wanted) > 1:
            raise ValueError(f"{' and '.join(wanted)} say the same: set one of them")
        if self.speculate_skipped and self.skip is None:
            raise ValueError("speculate_skipped needs skip, the file of artesian calibrate")
        if self.speculate == "skip" and not self.speculate_skipped:
            raise ValueError("speculate skip needs speculate_skipped")
        return self

    @model_validator(mode="after")
    def _check_context_cache(self) -> Self:
        for name in ("context_cache_dir", "context_pool", "context_remote_pool"):
            if getattr(self, name) is not None and not self.enable_prefix_caching:
                raise ValueError(f"{name} needs enable_prefix_caching")
        if self.context_pool is not None and self.context_pool == self.context_remote_pool:
            raise ValueError("context_pool and context_remote_pool are the same: name one of them")
        return self
