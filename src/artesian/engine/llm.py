"""`LLM`: a model in this process, for scripts and notebooks."""

import gc
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from operator import index
from types import TracebackType
from typing import Any, Protocol, Self

from artesian.attention import SparseAttention
from artesian.config.engine import EngineConfig
from artesian.engine.base import InvalidRequestError, Request, RequestOutput, SamplingParams
from artesian.engine.engine import LLMEngine
from artesian.engine.factory import create_engine
from artesian.engine.results import Completion, RequestResult
from artesian.loader.base import Tokenizer

Prompt = str | Sequence[int]
Message = dict[str, Any]


class _Progress(Protocol):
    def advance(self) -> None: ...


class LLM:
    """A model with its engine; not thread-safe.

    Example:
        >>> with LLM("smollm2") as llm:
        ...     result = llm.chat([{"role": "user", "content": "Hello"}])[0]
        ...     print(result.outputs[0].text)
    """

    def __init__(self, model: str, **config: Any) -> None:
        """Loads `model`; `config` are fields of `EngineConfig`, such as max_model_len.

        Raises `ValueError` (settings, checkpoint, memory plan) saying what to change.
        """
        self._engine: LLMEngine | None = create_engine(EngineConfig(model=model, **config))
        self._num_requests = 0

    @classmethod
    def from_engine(cls, engine: LLMEngine) -> "LLM":
        """Over an engine that exists already."""
        llm = cls.__new__(cls)
        llm._engine = engine
        llm._num_requests = 0
        return llm

    @property
    def engine(self) -> LLMEngine:
        """The engine. Raises `RuntimeError` once closed."""
        if self._engine is None:
            raise RuntimeError("this LLM is closed; make a new one")
        return self._engine

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.engine.tokenizer

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        show_progress: bool = False,
        attention: SparseAttention | None = None,
        num_skipped: int | None = None,
    ) -> list[RequestResult]:
        """Completes each prompt, text or token ids; results are in the order of the prompts.

        `sampling_params` is one for all or one for each. A request that fails while running has
        finish_reason "error" in its result. `attention`, `num_skipped`: see `Request`. Raises
        `InvalidRequestError` before anything runs.
        """
        requests = self._requests(_as_list(prompts), sampling_params, attention, num_skipped)
        return self._run(requests, show_progress)

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        show_progress: bool = False,
        attention: SparseAttention | None = None,
        num_skipped: int | None = None,
        **template_kwargs: Any,
    ) -> list[RequestResult]:
        """Answers one conversation, or each of several, through the model's chat template.

        A message is {"role": ..., "content": ...}. All else is as in `generate`. Raises
        `ValueError` when the model has no chat template or it rejects the messages.
        """
        is_one = bool(messages) and isinstance(messages[0], dict)
        conversations: Any = [messages] if is_one else messages
        prompts: list[Prompt] = [
            self.tokenizer.encode(
                self.tokenizer.apply_chat_template(list(conversation), **template_kwargs),
                add_special_tokens=False,
            )
            for conversation in conversations
        ]
        requests = self._requests(prompts, sampling_params, attention, num_skipped)
        return self._run(requests, show_progress)

    def stream(
        self,
        prompt: Prompt,
        sampling_params: SamplingParams | None = None,
        *,
        attention: SparseAttention | None = None,
        num_skipped: int | None = None,
    ) -> Iterator[RequestOutput]:
        """Completes one prompt, output by output; leaving the loop early cancels it."""
        [(request, _)] = self._requests([prompt], sampling_params, attention, num_skipped)
        engine = self.engine
        engine.add_request(request)
        num_open = request.sampling.n
        try:
            while num_open:
                for output in engine.step():
                    if output.request_id == request.request_id:
                        num_open -= output.finish_reason is not None
                        yield output
        finally:
            self._cancel([request.request_id])

    def close(self) -> None:
        """Frees the model's memory, after what the context cache is still saving."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None
        gc.collect()  # what loading left in cycles may hold on to the file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _requests(
        self,
        prompts: Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        attention: SparseAttention | None,
        num_skipped: int | None,
    ) -> list[tuple[Request, str | None]]:
        """Checked requests, each with its prompt if that is text."""
        params = _per_prompt(sampling_params, len(prompts))
        requests = []
        for number, (prompt, sampling) in enumerate(zip(prompts, params, strict=True)):
            text = prompt if isinstance(prompt, str) else None
            token_ids = self.tokenizer.encode(text) if text is not None else _token_ids(prompt)
            self._num_requests += 1
            request = Request(
                request_id=f"llm-{self._num_requests}",
                prompt_token_ids=token_ids,
                sampling=sampling,
                attention=attention,
                num_skipped=num_skipped,
            )
            try:
                self.engine.check_request(request)
            except InvalidRequestError as error:
                where = f"prompt {number}: " if len(prompts) > 1 else ""
                raise InvalidRequestError(f"{where}{error}") from None
            requests.append((request, text))
        return requests

    def _run(
        self, requests: list[tuple[Request, str | None]], show_progress: bool
    ) -> list[RequestResult]:
        engine = self.engine
        results: dict[str, RequestResult] = {}
        for request, prompt in requests:
            results[request.request_id] = RequestResult(
                request.request_id,
                prompt,
                request.prompt_token_ids,
                [Completion(i) for i in range(request.sampling.n)],
            )
        waiting = deque(request for request, _ in requests)
        num_open = len(requests)
        try:
            with _progress_bar(len(requests), show_progress) as progress:
                while num_open:
                    while waiting and engine.num_free_places > 0:
                        engine.add_request(waiting.popleft())
                    for output in engine.step():
                        result = results.get(output.request_id)
                        if result is None:
                            continue
                        result.take(output)
                        if output.finish_reason is not None and result.is_finished:
                            num_open -= 1
                            if progress is not None:
                                progress.advance()
        finally:
            if num_open:
                self._cancel(list(results))
        return list(results.values())

    def _cancel(self, request_ids: Sequence[str]) -> None:
        """Ends what is still running of these requests; other requests keep their outputs."""
        for request_id in request_ids:
            self.engine.abort(request_id)


def _as_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """A text, one prompt of token ids, or several prompts, as several."""
    if isinstance(prompts, str):
        return [prompts]
    items: list[Any] = list(prompts)
    return [items] if items and isinstance(items[0], Integral) else items


def _token_ids(prompt: Sequence[Any]) -> list[int]:
    """Token ids as Python's own integers, whatever kind of sequence and integer they came in."""
    try:
        return [index(token_id) for token_id in prompt]
    except TypeError:
        raise InvalidRequestError(
            f"a prompt must be text or a sequence of token ids, got {prompt!r:.80}"
        ) from None


def _per_prompt(
    params: SamplingParams | Sequence[SamplingParams] | None, num_prompts: int
) -> list[SamplingParams]:
    if params is None:
        params = SamplingParams()
    if isinstance(params, SamplingParams):
        return [params] * num_prompts
    if len(params) != num_prompts:
        raise InvalidRequestError(
            f"there are {num_prompts} prompts but {len(params)} sampling_params; "
            "give one for all or one for each"
        )
    return list(params)


class _Bar:
    """A rich progress bar over requests."""

    def __init__(self, total: int) -> None:
        from rich.progress import Progress

        self._progress = Progress(transient=True)
        self._task = self._progress.add_task("requests", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self) -> None:
        """One more is done."""
        self._progress.advance(self._task)


def _progress_bar(total: int, show: bool) -> AbstractContextManager[_Progress | None]:
    return _Bar(total) if show else nullcontext()
