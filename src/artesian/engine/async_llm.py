"""`AsyncLLM`: a model in this process for asyncio programs, many requests at once.

The engine runs on a thread of its own; kernels release the GIL, so the event loop stays responsive.
Commands go to the thread through a queue, outputs come back through the event loop.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from artesian.attention import SparseAttention
from artesian.config.engine import EngineConfig
from artesian.engine.base import Request, RequestOutput, SamplingParams
from artesian.engine.engine import LLMEngine
from artesian.loader.base import Tokenizer

_Mailbox = asyncio.Queue[RequestOutput | Exception]


class AsyncLLM:
    """A model with its engine on a thread.

    Example:
        >>> async with AsyncLLM("smollm2") as llm:
        ...     async for output in llm.generate("Once upon a time"):
        ...         print(output.text, end="")
    """

    def __init__(self, model: str, **config: Any) -> None:
        """Loads `model`; `config` are fields of `EngineConfig`."""
        from artesian.engine.factory import create_engine

        self._start(create_engine(EngineConfig(model=model, **config)))

    @classmethod
    def from_engine(cls, engine: LLMEngine) -> "AsyncLLM":
        """Over an engine that exists already; nobody else may use it from now on."""
        llm = cls.__new__(cls)
        llm._start(engine)
        return llm

    def _start(self, engine: LLMEngine) -> None:
        self._engine = engine
        self._commands: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._mailboxes: dict[str, Callable[[RequestOutput | Exception], None]] = {}
        self._numbers = count(1)
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="artesian-engine", daemon=True)
        self._thread.start()

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._engine.tokenizer

    async def generate(
        self,
        prompt: str | Sequence[int],
        sampling_params: SamplingParams | None = None,
        *,
        priority: int = 0,
        timeout_s: float | None = None,
        attention: SparseAttention | None = None,
        num_skipped: int | None = None,
    ) -> AsyncIterator[RequestOutput]:
        """Outputs of one prompt as they come; leaving the loop early cancels the request.

        Raises `InvalidRequestError`, `QueueFullError`, and `RuntimeError` once closed.
        """
        request = Request(
            request_id=f"async-{next(self._numbers)}",
            prompt_token_ids=(
                self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
            ),
            sampling=sampling_params or SamplingParams(),
            priority=priority,
            timeout_s=timeout_s,
            attention=attention,
            num_skipped=num_skipped,
        )
        mailbox: _Mailbox = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def post(item: RequestOutput | Exception) -> None:
            loop.call_soon_threadsafe(mailbox.put_nowait, item)

        self._commands.put(lambda: self._add(request, post))
        if self._is_closed:  # looked at last: the thread obeys what came before it closed
            raise RuntimeError("this AsyncLLM is closed; make a new one")
        num_open = request.sampling.n
        try:
            while num_open:
                item = await mailbox.get()
                if isinstance(item, Exception):
                    raise item
                num_open -= item.finish_reason is not None
                yield item
        finally:
            self._commands.put(lambda: self._forget(request.request_id))

    async def close(self) -> None:
        """Ends all requests with a `RuntimeError` and the thread with them."""
        self._is_closed = True
        self._commands.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._engine.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _add(self, request: Request, post: Callable[[RequestOutput | Exception], None]) -> None:
        try:
            self._engine.add_request(request)
        except Exception as error:
            post(error)
        else:
            self._mailboxes[request.request_id] = post

    def _forget(self, request_id: str) -> None:
        self._mailboxes.pop(request_id, None)
        self._engine.abort(request_id)

    def _run(self) -> None:
        """The thread: obeys commands, steps while there is work, sleeps while there is none."""
        failure: Exception = RuntimeError("this AsyncLLM was closed")
        try:
            while True:
                while not (self._commands.empty() and self._engine.has_work()):
                    command = self._commands.get()
                    if command is None:
                        return
                    command()
                for output in self._engine.step():
                    post = self._mailboxes.get(output.request_id)
                    if post is not None:
                        post(output)
        except Exception as error:  # a defect: whoever waits must hear of it
            failure = error
        finally:
            self._is_closed = True
            while not self._commands.empty():
                if command := self._commands.get():
                    command()
            for post in self._mailboxes.values():
                post(failure)
