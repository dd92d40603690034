"""`/v1/completions`."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from fastapi import APIRouter, Request, Response

from artesian.api.auth import key_of, salt_of
from artesian.api.caller import caller_of
from artesian.api.errors import ApiError
from artesian.api.events import DONE, EventStream, event, unless_gone
from artesian.api.generation import Generation, check_length, finish_reason, sampling_params
from artesian.api.logprobs import CompletionLogprobsBuilder
from artesian.api.protocol.base import Usage
from artesian.api.protocol.chat import FinishReason
from artesian.api.protocol.completions import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    CompletionRequest,
)
from artesian.api.routes import EVENT_STREAM, GENERATION_ERRORS
from artesian.api.state import ServerState, State
from artesian.engine.base import OutputLogprobs, RequestOutput

router = APIRouter()


@router.post(
    "/v1/completions",
    response_model=Completion,
    responses={200: EVENT_STREAM, **GENERATION_ERRORS},
)
async def completions(body: CompletionRequest, request: Request, state: State) -> Response:
    """Goes on with one or several texts; `stream` sends them as server-sent events."""
    call = CompletionCall(body, state, state.check_model(body.model))
    if not body.stream:
        return await unless_gone(request, call.respond(request))
    return await unless_gone(request, call.open(request))


class CompletionCall:
    """One call on its way: prompts times n choices."""

    def __init__(self, body: CompletionRequest, state: ServerState, model: str) -> None:
        self._body = body
        self._state = state
        self._model = model
        self._id = f"cmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._num_choices = body.n or 1
        # Nothing is generated, but log probabilities of the prompt need one step.
        self._only_prompt = body.max_tokens == 0
        self._echoes: list[str] = []
        self._token_ids: list[list[int]] = []
        self._builders: dict[int, CompletionLogprobsBuilder] = {}

    async def prepare(self, request: Request) -> Generation:
        """Checks the call and turns its prompts into tokens."""
        body, info = self._body, self._state.info()
        if self._only_prompt and not body.echo:
            raise ApiError(400, "max_tokens: 0 is only allowed with echo", param="max_tokens")
        prompts = body.prompts()
        self._state.queue.check(key_of(request), len(prompts) * self._num_choices)
        limits: list[int | None] = []
        for prompt in prompts:
            token_ids = await self._encode(prompt, info.vocab_size)
            num_tokens = len(token_ids)
            limit = check_length(num_tokens, body.max_tokens, info, body.context_overflow)
            limits.append(1 if self._only_prompt else limit)
            self._token_ids.append(token_ids)
            if body.echo:
                self._echoes.append(
                    prompt
                    if isinstance(prompt, str)
                    else await self._state.prompts().decode(prompt)
                )
        prompt_logprobs = body.logprobs if body.echo else None
        generation = Generation(
            self._state,
            self._id,
            self._token_ids,
            [
                sampling_params(
                    body, limit, body.logprobs, prompt_logprobs, self._state.default_seed
                )
                for limit in limits
            ],
            body,
            salt_of(request, body.cache_salt),
            caller=caller_of(request),
        )
        request.scope["log"].update(id=self._id, meter=generation.meter)
        return generation

    async def _encode(self, prompt: str | list[int], vocab_size: int) -> list[int]:
        if isinstance(prompt, str):
            add_special_tokens = self._body.add_special_tokens is not False
            return await self._state.prompts().encode(prompt, add_special_tokens)
        highest = max(prompt)
        if highest >= vocab_size:
            raise ApiError(
                400,
                f"prompt: token id {highest} is not below the vocabulary's size, {vocab_size}",
                param="prompt",
            )
        return prompt

    async def open(self, request: Request) -> Response:
        """The answer as events, once it is the call's turn."""
        generation = await self.prepare(request)
        await generation.open()
        return EventStream(self.stream(generation), generation.close)

    async def respond(self, request: Request) -> Response:
        """The whole answer at once."""
        generation = await self.prepare(request)
        choices: dict[int, list[CompletionChoice]] = {}
        async with generation, aclosing(generation.outputs()) as outputs:
            async for prompt_index, output in outputs:
                choice = self._choice(prompt_index, output)
                choices.setdefault(choice.index, []).append(choice)
        merged = [_merged(choices[index]) for index in sorted(choices)]
        completion = Completion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=merged,
            usage=self._usage(generation),
        )
        return Response(completion.model_dump_json(), media_type="application/json")

    async def stream(self, generation: Generation) -> AsyncGenerator[bytes, None]:
        """The answer as events."""
        options = self._body.stream_options
        own_usage = bool(options and options.include_usage)
        num_left = len(self._token_ids) * self._num_choices
        async with aclosing(generation.outputs()) as outputs:
            async for prompt_index, output in outputs:
                choice = self._choice(prompt_index, output)
                num_left -= choice.finish_reason is not None
                if not (choice.text or choice.logprobs or choice.finish_reason):
                    continue
                chunk = self._chunk([choice])
                if num_left == 0 and not own_usage:
                    chunk.usage = self._usage(generation)
                yield event(chunk)
        if own_usage:
            chunk = self._chunk([])
            chunk.usage = self._usage(generation)
            yield event(chunk)
        yield DONE

    def _usage(self, generation: Generation) -> Usage:
        usage = generation.meter.usage()
        if self._only_prompt:
            usage.completion_tokens, usage.total_tokens = 0, usage.prompt_tokens
        return usage

    def _chunk(self, choices: list[CompletionChoice]) -> Completion:
        return Completion(
            id=self._id,
            object="text_completion",
            created=self._created,
            model=self._model,
            choices=choices,
        )

    def _choice(self, prompt_index: int, output: RequestOutput) -> CompletionChoice:
        """What an output adds to its choice; a choice's first also holds the echo."""
        index = prompt_index * self._num_choices + output.index
        text, token_ids = output.text, output.token_ids
        logprobs: list[OutputLogprobs | None] = list(output.logprobs or [])
        if self._only_prompt:
            text, token_ids, logprobs = "", [], []
        if index not in self._builders:
            encoder, with_top = self._state.prompts(), bool(self._body.logprobs)
            self._builders[index] = CompletionLogprobsBuilder(encoder, with_top)
            if self._echoes:
                text = self._echoes[prompt_index] + text
                if self._body.logprobs is not None:
                    prompt = self._token_ids[prompt_index]
                    known = output.prompt_logprobs or [None] * len(prompt)
                    token_ids, logprobs = prompt + token_ids, known + logprobs
        choice = CompletionChoice(
            index=index,
            text=text,
            logprobs=None,
            finish_reason=cast(FinishReason | None, finish_reason(output.finish_reason)),
        )
        if output.stop_reason is not None:
            choice.stop_reason = output.stop_reason
        if self._body.logprobs is not None and token_ids:
            choice.logprobs = self._builders[index].build(token_ids, logprobs)
        return choice


def _merged(parts: list[CompletionChoice]) -> CompletionChoice:
    whole = parts[0]
    for part in parts[1:]:
        whole.text += part.text
        whole.finish_reason = part.finish_reason
        whole.stop_reason = part.stop_reason
        whole.logprobs = _joined(whole.logprobs, part.logprobs)
    return whole


def _joined(
    first: CompletionLogprobs | None, second: CompletionLogprobs | None
) -> CompletionLogprobs | None:
    if first is None or second is None:
        return first or second
    first.tokens += second.tokens
    first.token_logprobs += second.token_logprobs
    first.text_offset += second.text_offset
    if first.top_logprobs is not None:
        first.top_logprobs += second.top_logprobs or []
    return first
