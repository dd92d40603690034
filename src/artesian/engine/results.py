"""Whole results of `LLM`, put together from the outputs of many steps."""

from dataclasses import dataclass, field

from artesian.engine.base import (
    FinishReason,
    OutputLogprobs,
    RequestMetrics,
    RequestOutput,
)


@dataclass(slots=True)
class Completion:
    """One of the n completions of a prompt.

    Attributes:
        text: ends before a stop string; token_ids: all tokens, the one that ended it included.
        logprobs: per token, if asked for.
        stop_reason: the stop string or token id that ended it, if one did.
        error: cause when finish_reason is "error".
    """

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[OutputLogprobs] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    error: str | None = None


@dataclass(slots=True)
class RequestResult:
    """What came of one prompt.

    Attributes:
        prompt: as given, None when it was given as tokens.
        prompt_logprobs: per prompt token (None for the first), if asked for.
        num_cached_tokens: prompt tokens whose KV did not have to be computed.
        num_truncated_tokens: how many of the oldest tokens the context had no more room for.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[Completion]
    prompt_logprobs: list[OutputLogprobs | None] | None = None
    num_cached_tokens: int = 0
    num_truncated_tokens: int = 0
    metrics: RequestMetrics = field(default_factory=RequestMetrics)

    @property
    def is_finished(self) -> bool:
        """Whether every completion has ended."""
        return all(completion.finish_reason is not None for completion in self.outputs)

    def take(self, output: RequestOutput) -> None:
        """Adds what one step brought."""
        completion = self.outputs[output.index]
        completion.text += output.text
        completion.token_ids += output.token_ids
        if output.logprobs is not None:
            completion.logprobs = (completion.logprobs or []) + output.logprobs
        if output.prompt_logprobs is not None:
            self.prompt_logprobs = output.prompt_logprobs
        completion.finish_reason = output.finish_reason
        completion.stop_reason = output.stop_reason
        completion.error = output.error
        self.num_cached_tokens = output.num_cached_tokens
        self.num_truncated_tokens = max(self.num_truncated_tokens, output.num_truncated_tokens)
        self.metrics = output.metrics
