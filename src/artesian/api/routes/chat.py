"""`/v1/chat/completions`."""

import itertools
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from fastapi import APIRouter, Request, Response

from artesian.api.auth import key_of, salt_of
from artesian.api.caller import caller_of
from artesian.api.events import DONE, EventStream, event, unless_gone
from artesian.api.generation import Generation, Pin, check_length, finish_reason, sampling_params
from artesian.api.logprobs import chat_logprobs
from artesian.api.protocol.chat import (
    AssistantMessage,
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
    Delta,
    FinishReason,
)
from artesian.api.routes import EVENT_STREAM, GENERATION_ERRORS
from artesian.api.state import ServerState, State
from artesian.engine.base import RequestOutput

router = APIRouter()


@dataclass
class ChatCall:
    """One chat completion on its way."""

    body: ChatCompletionRequest
    state: ServerState
    id: str
    created: int
    model: str
    generation: Generation

    def logprobs(self, output: RequestOutput) -> ChoiceLogprobs | None:
        """Log probabilities of an output's tokens, if asked for."""
        if output.logprobs is None or self.body.num_logprobs() is None:
            return None
        return chat_logprobs(self.state.prompts(), output.logprobs)


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    responses={200: EVENT_STREAM, **GENERATION_ERRORS},
)
async def chat_completions(body: ChatCompletionRequest, request: Request, state: State) -> Response:
    """Goes on with a conversation; `stream` sends it as server-sent events."""
    model = state.check_model(body.model)
    if not body.stream:
        return await unless_gone(request, _respond(body, request, state, model))
    return await unless_gone(request, _open(body, request, state, model))


async def _open(
    body: ChatCompletionRequest, request: Request, state: ServerState, model: str
) -> Response:
    call = await _prepare(body, request, state, model)
    await call.generation.open()
    return EventStream(_stream(call), call.generation.close)


async def _prepare(
    body: ChatCompletionRequest, request: Request, state: ServerState, model: str
) -> ChatCall:
    info = state.info()
    num_choices = body.n or 1
    state.queue.check(key_of(request), num_choices)
    prompt = await state.prompts().encode_chat(
        body.messages,
        body.add_generation_prompt is not False,
        body.chat_template_kwargs or {},
    )
    limit = body.max_completion_tokens or body.max_tokens
    max_tokens = check_length(len(prompt), limit, info, body.context_overflow)
    call_id = f"chatcmpl-{secrets.token_hex(12)}"
    generation = Generation(
        state,
        call_id,
        [prompt],
        [sampling_params(body, max_tokens, body.num_logprobs(), default_seed=state.default_seed)],
        body,
        salt_of(request, body.cache_salt),
        await _marked_pin(body, state, prompt),
        caller=caller_of(request),
    )
    request.scope["log"].update(id=call_id, meter=generation.meter)
    return ChatCall(body, state, call_id, int(time.time()), model, generation)


async def _marked_pin(
    body: ChatCompletionRequest, state: ServerState, prompt: list[int]
) -> Pin | None:
    """What marks on messages ask to keep: the prompt up to the last one of them."""
    marked = [(i, message.pin_s()) for i, message in enumerate(body.messages) if message.pin_s()]
    if not marked or body.pin_s():
        return None
    index, seconds = marked[-1]
    kwargs = body.chat_template_kwargs or {}
    beginning = await state.prompts().encode_chat(body.messages[: index + 1], False, kwargs)
    # Templates may end a conversation otherwise than they go on with it.
    pairs = zip(beginning, prompt, strict=False)
    num_tokens = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    return Pin(num_tokens, seconds)


async def _respond(
    body: ChatCompletionRequest, request: Request, state: ServerState, model: str
) -> Response:
    call = await _prepare(body, request, state, model)
    num_choices = body.n or 1
    texts: list[list[str]] = [[] for _ in range(num_choices)]
    logprobs: list[list[Any]] = [[] for _ in range(num_choices)]
    ends: list[RequestOutput | None] = [None] * num_choices
    async with call.generation as generation, aclosing(generation.outputs()) as outputs:
        async for _, output in outputs:
            texts[output.index].append(output.text)
            entry = call.logprobs(output)
            if entry is not None:
                logprobs[output.index] += entry.content or []
            if output.finish_reason is not None:
                ends[output.index] = output
    choices = [
        Choice(
            index=index,
            message=AssistantMessage(role="assistant", content="".join(texts[index]), refusal=None),
            logprobs=ChoiceLogprobs(content=logprobs[index], refusal=None)
            if body.logprobs
            else None,
            finish_reason=_reason(end),
            stop_reason=end.stop_reason if end else None,
        )
        for index, end in enumerate(ends)
    ]
    completion = ChatCompletion(
        id=call.id,
        created=call.created,
        model=call.model,
        choices=choices,
        usage=call.generation.meter.usage(),
    )
    return Response(completion.model_dump_json(), media_type="application/json")


async def _stream(call: ChatCall) -> AsyncGenerator[bytes, None]:
    num_choices = call.body.n or 1
    own_usage = bool(call.body.stream_options and call.body.stream_options.include_usage)
    for index in range(num_choices):
        yield _chunk(call, index, Delta(role="assistant", content=""))
    num_left = num_choices
    async with aclosing(call.generation.outputs()) as outputs:
        async for _, output in outputs:
            delta = Delta(content=output.text) if output.text else Delta()
            ended = output.finish_reason is not None
            num_left -= ended
            logprobs = call.logprobs(output)
            if not (output.text or logprobs or ended):
                continue
            last = num_left == 0 and not own_usage
            yield _chunk(call, output.index, delta, output, logprobs, with_usage=last)
    if own_usage:
        chunk = ChatCompletionChunk(
            id=call.id,
            object="chat.completion.chunk",
            created=call.created,
            model=call.model,
            choices=[],
            usage=call.generation.meter.usage(),
        )
        yield event(chunk)
    yield DONE


def _chunk(
    call: ChatCall,
    index: int,
    delta: Delta,
    output: RequestOutput | None = None,
    logprobs: ChoiceLogprobs | None = None,
    *,
    with_usage: bool = False,
) -> bytes:
    ended = output is not None and output.finish_reason is not None
    choice = ChunkChoice(
        index=index,
        delta=delta,
        logprobs=logprobs,
        finish_reason=_reason(output) if ended else None,
    )
    if ended and output is not None and output.stop_reason is not None:
        choice.stop_reason = output.stop_reason
    chunk = ChatCompletionChunk(
        id=call.id,
        object="chat.completion.chunk",
        created=call.created,
        model=call.model,
        choices=[choice],
    )
    if with_usage:
        chunk.usage = call.generation.meter.usage()
    return event(chunk)


def _reason(output: RequestOutput | None) -> FinishReason:
    assert output is not None
    return cast(FinishReason, finish_reason(output.finish_reason))
