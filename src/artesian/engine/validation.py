"""Refuses requests that can never run, saying which value is wrong and what is allowed."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import get_args

from artesian.attention import Selector, SparseAttention
from artesian.context.policies import Truncation
from artesian.engine.base import InvalidRequestError, Request, SamplingParams

MAX_N = 128
MAX_LOGPROBS = 20
MAX_STOP_STRINGS = 64
MAX_STOP_STRING_CHARS = 4096
MAX_LOGIT_BIASES = 1024
_INT32_MAX = 2**31 - 1

_INTEGER_RANGES = {
    "n": (1, MAX_N),
    "top_k": (-1, _INT32_MAX),
    "min_tokens": (0, _INT32_MAX),
}
_OPTIONAL_INTEGER_RANGES = {
    "logprobs": (0, MAX_LOGPROBS),
    "prompt_logprobs": (0, MAX_LOGPROBS),
    "seed": (-(2**63), 2**64 - 1),
    "max_tokens": (1, _INT32_MAX),
}
_NUMBER_RANGES = {
    "temperature": (0.0, 100.0),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
_BOOLEANS = ("include_stop_str_in_output", "ignore_eos", "skip_special_tokens")


def check_sampling_params(params: SamplingParams, vocab_size: int) -> None:
    """Raises `InvalidRequestError` at the first field that is wrong."""
    for name, (low, high) in _INTEGER_RANGES.items():
        _check_integer(name, getattr(params, name), low, high)
    for name, (low, high) in _OPTIONAL_INTEGER_RANGES.items():
        if getattr(params, name) is not None:
            _check_integer(name, getattr(params, name), low, high)
    for name, (least, most) in _NUMBER_RANGES.items():
        if not least <= _number(name, getattr(params, name)) <= most:
            raise _wrong(name, getattr(params, name), f"a number from {least:g} to {most:g}")
    if not 0 < _number("top_p", params.top_p) <= 1:
        raise _wrong("top_p", params.top_p, "above 0 and at most 1")
    if not 0 < _number("repetition_penalty", params.repetition_penalty) <= 100:
        raise _wrong("repetition_penalty", params.repetition_penalty, "above 0 and at most 100")
    for name in _BOOLEANS:
        if not isinstance(getattr(params, name), bool):
            raise _wrong(name, getattr(params, name), "true or false")
    if params.max_tokens is not None and params.min_tokens > params.max_tokens:
        raise InvalidRequestError(
            f"min_tokens ({params.min_tokens}) must not exceed max_tokens ({params.max_tokens})"
        )
    _check_stops(params, vocab_size)
    _check_logit_bias(params, vocab_size)


def check_request(
    request: Request, vocab_size: int, max_model_len: int, cuts: Truncation | None = None
) -> None:
    """Raises `InvalidRequestError` when `request` can never run on this model; with `cuts` it may
    be longer than the context window."""
    check_sampling_params(request.sampling, vocab_size)
    num_tokens = len(request.prompt_token_ids)
    if num_tokens == 0:
        raise InvalidRequestError("the prompt has no tokens; give it at least one")
    if cuts is not None:
        _check_truncated(request, cuts)
    elif num_tokens >= max_model_len:
        raise InvalidRequestError(
            f"the prompt has {num_tokens} tokens, but max_model_len is {max_model_len} tokens "
            "for prompt and output together: shorten the prompt, or start with a larger "
            "max_model_len if the model and the memory allow, or with context_overflow truncate"
        )
    _check_token_ids("prompt_token_ids", request.prompt_token_ids, vocab_size)
    _check_integer("priority", request.priority, -(2**31), _INT32_MAX)
    if request.timeout_s is not None and _number("timeout_s", request.timeout_s) < 0:
        raise _wrong("timeout_s", request.timeout_s, "at least 0")
    if request.attention is not None:
        check_attention(request.attention)
    if request.num_skipped is not None:
        _check_integer("num_skipped", request.num_skipped, 0, _INT32_MAX)
    if request.output_token_ids:
        _check_token_ids("output_token_ids", request.output_token_ids, vocab_size)
        if request.sampling.n != 1:
            raise InvalidRequestError(
                f"output_token_ids (a resumed request) needs n = 1, got n = {request.sampling.n}"
            )
        if cuts is None and num_tokens + len(request.output_token_ids) > max_model_len:
            raise InvalidRequestError(
                f"prompt and earlier output have {num_tokens + len(request.output_token_ids)} "
                f"tokens, but max_model_len is {max_model_len}"
            )


def check_attention(attention: SparseAttention) -> None:
    """Raises `InvalidRequestError` at the first field that is wrong."""
    if attention.selector not in get_args(Selector):
        allowed = "one of " + ", ".join(get_args(Selector))
        raise _wrong("attention: selector", attention.selector, allowed)
    if not 0 < _number("attention: epsilon", attention.epsilon) <= 1:
        raise _wrong("attention: epsilon", attention.epsilon, "above 0 and at most 1")
    for name in ("budget_tokens", "dense_layers", "min_context_tokens"):
        _check_integer(f"attention: {name}", getattr(attention, name), 0, _INT32_MAX)
    if attention.selector in ("top-k", "window") and not attention.budget_tokens:
        raise InvalidRequestError(f"attention {attention.selector} needs budget_tokens above 0")


def _check_truncated(request: Request, cuts: Truncation) -> None:
    num_tokens = len(request.prompt_token_ids) + len(request.output_token_ids)
    if num_tokens >= cuts.longest_stream:
        raise InvalidRequestError(
            f"prompt and earlier output have {num_tokens} tokens; even truncated, at most "
            f"{cuts.longest_stream} are taken, output included: shorten the prompt"
        )
    if request.sampling.prompt_logprobs is not None and num_tokens > cuts.window_tokens:
        raise InvalidRequestError(
            f"prompt_logprobs needs the whole prompt, but the context window holds only "
            f"{cuts.window_tokens} of {num_tokens} tokens: shorten the prompt"
        )


def _check_stops(params: SamplingParams, vocab_size: int) -> None:
    if isinstance(params.stop, str) or not isinstance(params.stop, Sequence):
        raise _wrong("stop", params.stop, "a tuple of strings")
    if len(params.stop) > MAX_STOP_STRINGS:
        raise _wrong("stop", f"{len(params.stop)} strings", f"at most {MAX_STOP_STRINGS}")
    for stop in params.stop:
        if not isinstance(stop, str) or not 0 < len(stop) <= MAX_STOP_STRING_CHARS:
            raise _wrong("stop", stop, f"strings of 1 to {MAX_STOP_STRING_CHARS} characters")
    if len(params.stop_token_ids) > MAX_LOGIT_BIASES:
        raise _wrong(
            "stop_token_ids", f"{len(params.stop_token_ids)} ids", f"at most {MAX_LOGIT_BIASES}"
        )
    _check_token_ids("stop_token_ids", params.stop_token_ids, vocab_size)


def _check_logit_bias(params: SamplingParams, vocab_size: int) -> None:
    if not isinstance(params.logit_bias, dict):
        raise _wrong("logit_bias", params.logit_bias, "a map from token id to number")
    if len(params.logit_bias) > MAX_LOGIT_BIASES:
        raise _wrong(
            "logit_bias", f"{len(params.logit_bias)} entries", f"at most {MAX_LOGIT_BIASES}"
        )
    _check_token_ids("logit_bias", list(params.logit_bias), vocab_size)
    for token_id, bias in params.logit_bias.items():
        if not -100 <= _number("logit_bias", bias) <= 100:
            raise _wrong(f"logit_bias of token {token_id}", bias, "a number from -100 to 100")


def _check_token_ids(name: str, token_ids: Sequence[int], vocab_size: int) -> None:
    if any(type(token_id) is not int for token_id in token_ids):
        wrong = next(token_id for token_id in token_ids if type(token_id) is not int)
        raise _wrong(name, wrong, "whole numbers")
    if token_ids and (min(token_ids) < 0 or max(token_ids) >= vocab_size):
        wrong = next(token_id for token_id in token_ids if not 0 <= token_id < vocab_size)
        raise _wrong(name, wrong, f"token ids from 0 to {vocab_size - 1}, the model's vocabulary")


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise _wrong(name, value, f"a whole number from {low} to {high}")


def _number(name: str, value: object) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise _wrong(name, value, "a finite number")
    return float(value)


def _wrong(name: str, value: object, allowed: str) -> InvalidRequestError:
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    return InvalidRequestError(f"{name} must be {allowed}, got {shown}")
