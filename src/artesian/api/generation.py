"""Runs one API call in the engine: one request per prompt, their outputs merged."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from artesian.api.caller import Caller
from artesian.api.errors import ApiError
from artesian.api.protocol.base import INT64_MAX, SamplingFields
from artesian.api.state import ServerState
from artesian.api.tracing import CallTrace
from artesian.api.usage import UsageMeter
from artesian.cluster.policies.fair_share import Waiting
from artesian.cluster.turn import Turn
from artesian.config.engine import ContextOverflow
from artesian.engine.base import (
    EngineInfo,
    FinishReason,
    Request,
    RequestOutput,
    SamplingParams,
)
from artesian.worker.stream import RequestStream


def sampling_params(
    fields: SamplingFields,
    max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None = None,
    default_seed: int | None = None,
) -> SamplingParams:
    """The engine's words for an API call's sampling; what was left out has its default.

    Every request gets a seed, so that one which has to run again runs the same way.
    """
    seed = fields.seed if fields.seed is not None else default_seed
    if seed is None:
        seed = secrets.randbits(62)
    chosen = {
        "n": fields.n,
        "temperature": fields.temperature,
        "top_p": fields.top_p,
        "top_k": fields.top_k,
        "min_p": fields.min_p,
        "repetition_penalty": fields.repetition_penalty,
        "presence_penalty": fields.presence_penalty,
        "frequency_penalty": fields.frequency_penalty,
        "min_tokens": fields.min_tokens,
        "ignore_eos": fields.ignore_eos,
        "include_stop_str_in_output": fields.include_stop_str_in_output,
        "skip_special_tokens": fields.skip_special_tokens,
    }
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    return SamplingParams(
        **given,
        seed=seed & INT64_MAX,
        logit_bias={int(token): bias for token, bias in (fields.logit_bias or {}).items()},
        stop=fields.stop_strings(),
        stop_token_ids=tuple(fields.stop_token_ids or ()),
        max_tokens=max_tokens,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
    )


def check_length(
    num_prompt_tokens: int,
    max_tokens: int | None,
    info: EngineInfo,
    overflow: ContextOverflow | None = None,
) -> int | None:
    """How many tokens may come behind a prompt; None: the engine ends the answer where it should.

    `overflow` is what the request says about it. Raises `ApiError` (400) if none may come.
    """
    truncates = info.longest_stream > 0 and (overflow or info.context_overflow) == "truncate"
    longest = info.longest_stream if truncates else info.max_model_len
    what = "the longest that is truncated" if truncates else "the model's context"
    room = longest - num_prompt_tokens
    if num_prompt_tokens == 0:
        raise ApiError(400, "the prompt is empty: it has no tokens", param="prompt")
    if room <= 0:
        raise ApiError(
            400,
            f"the prompt has {num_prompt_tokens} tokens, but {what} is "
            f"{longest} tokens long, prompt and answer together; shorten the prompt",
            code="context_length_exceeded",
        )
    if max_tokens is None:
        return None if truncates else room
    return min(max_tokens, room)


class Pin(NamedTuple):
    """How much of a prompt is kept for later ones, and how long."""

    num_tokens: int
    seconds: float


class Generation:
    """An API call that runs between `open` and `close`; both also as a context manager."""

    def __init__(
        self,
        state: ServerState,
        call_id: str,
        prompts: list[list[int]],
        sampling: list[SamplingParams],
        body: SamplingFields,
        cache_salt: str,
        pin: Pin | None = None,
        *,
        caller: Caller,
    ) -> None:
        """`pin` takes the place of what `body` says about whole prompts."""
        self.meter = UsageMeter([len(prompt) for prompt in prompts], state.metrics)
        self._state = state
        self._requests = [
            Request(
                request_id=f"{call_id}-{index}",
                prompt_token_ids=prompt,
                sampling=params,
                priority=body.priority or 0,
                timeout_s=state.config.request_timeout_s,
                cache_salt=cache_salt,
                session_id=body.session_id or "",
                context_overflow=body.context_overflow,
                attention=body.sparse_attention(state.info().attention),
                num_skipped=body.num_skipped,
                pin_tokens=len(prompt) if pin is None else pin.num_tokens,
                pin_s=body.pin_s() if pin is None else pin.seconds,
            )
            for index, (prompt, params) in enumerate(zip(prompts, sampling, strict=True))
        ]
        limits = [params.max_tokens for params in sampling for _ in range(params.n)]
        self._item = Waiting(
            call_id=call_id,
            key=caller.key,
            priority=body.priority or 0,
            num_sequences=len(limits),
            prompt_tokens=self.meter.prompt_tokens,
            max_output_tokens=None if None in limits else sum(filter(None, limits)),
            arrived_s=time.monotonic(),
        )
        self._trace = CallTrace(
            state.traces, caller, call_id, [request.request_id for request in self._requests]
        )
        self._turn: Turn | None = None
        self._streams: list[RequestStream] = []
        self._left = [params.n for params in sampling]
        self._reason: str | None = None

    async def open(self) -> None:
        """Hands the requests to the engine when it is their turn; all or none.

        Raises what `FrontQueue.enter` and `EngineClient.submit` do.
        """
        self._trace.begin(self.meter)
        try:
            self._turn = await self._state.queue.enter(self._item)
            self._trace.leave_queue()
            await self._submit()
        except BaseException as error:
            if self._turn is not None:
                self._state.queue.end(self._turn)
            self._trace.fail(error)
            raise
        self._turn.follow(self._streams)

    async def _submit(self) -> None:
        engine, limit = self._state.engine, self._state.config.max_stream_buffer_tokens
        self._take_waiting_off()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(engine.submit(request, limit)) for request in self._requests
                ]
        except ExceptionGroup as errors:
            for task in tasks:
                if not task.cancelled() and task.exception() is None:
                    engine.abort(task.result())
            raise errors.exceptions[0] from None
        self._streams = [task.result() for task in tasks]

    def _take_waiting_off(self) -> None:
        """What a call has waited for its turn is part of its life."""
        waited_s = time.monotonic() - self._item.arrived_s
        self.meter.front_queue_ms = waited_s * 1e3
        left_s = max(self._state.config.request_timeout_s - waited_s, 1e-3)
        self._requests = [
            msgspec.structs.replace(request, timeout_s=left_s) for request in self._requests
        ]

    def close(self) -> None:
        """Gives up what still runs."""
        for stream in self._streams:
            self._state.engine.abort(stream)
        if self._turn is not None:
            self._state.queue.end(self._turn)
        reason = self._reason or "abort"
        self.meter.finish(reason)
        self._trace.finish(reason)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def outputs(self) -> AsyncGenerator[tuple[int, RequestOutput], None]:
        """Outputs of all requests as they come, each with its request's index.

        Raises:
            ApiError: a request failed in the engine.
        """
        try:
            async with contextlib.aclosing(self._batches()) as batches:
                async for index, outputs in batches:
                    self.meter.add(index, outputs)
                    for output in outputs:
                        self._check(output)
                        self._left[index] -= output.finish_reason is not None
                        if not any(self._left):
                            self._reason = output.finish_reason
                        yield index, output
        except Exception:
            self._reason = "error"
            raise

    async def _batches(self) -> AsyncGenerator[tuple[int, list[RequestOutput]], None]:
        if len(self._streams) == 1:
            while self._left[0]:
                yield 0, await self._streams[0].get()
            return
        tasks = {asyncio.create_task(s.get()): i for i, s in enumerate(self._streams)}
        try:
            while tasks:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    index = tasks.pop(task)
                    yield index, task.result()
                    if self._left[index]:
                        tasks[asyncio.create_task(self._streams[index].get())] = index
        finally:
            for task in tasks:
                task.cancel()

    def _check(self, output: RequestOutput) -> None:
        if output.finish_reason == "error":
            message = f"the engine could not finish the request: {output.error}"
            raise ApiError(500, message, type_="server_error", code="engine_error")
        if output.finish_reason == "abort":
            raise ApiError(500, "the engine gave the request up", type_="server_error")
        if output.finish_reason == "deadline" and self.meter.completion_tokens == 0:
            limit = self._state.config.request_timeout_s
            message = f"no token was ready after {limit:g} s; the server is busy"
            raise ApiError(504, message, type_="timeout_error", code="deadline_exceeded")


def finish_reason(reason: FinishReason | None) -> str | None:
    """OpenAI's word for the end of a choice; a deadline cuts it short like a limit of length."""
    return "length" if reason == "deadline" else reason
