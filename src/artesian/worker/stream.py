"""The front's end of one request: outputs on their way to a client, and what a retry needs."""

import asyncio
import time
from collections.abc import Callable

import msgspec

from artesian.engine.base import FinishReason, Request, RequestOutput
from artesian.worker.base import RequestDeadlineError, SlowClientError


class CompletionProgress:
    """What has been received of one of a request's n completions."""

    __slots__ = ("finished", "num_chars", "replay_chars", "replay_tokens", "token_ids")

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.num_chars = 0
        self.finished = False
        self.replay_tokens = 0
        self.replay_chars = 0

    def replay(self) -> None:
        """From now on skips what was received before."""
        self.replay_tokens, self.replay_chars = len(self.token_ids), self.num_chars

    def receive(self, output: RequestOutput) -> RequestOutput | None:
        """The part of `output` that is new, or None; notes it as received."""
        if self.finished:
            return None
        if self.replay_tokens or self.replay_chars:
            skipped_tokens = min(self.replay_tokens, len(output.token_ids))
            skipped_chars = min(self.replay_chars, len(output.text))
            self.replay_tokens -= skipped_tokens
            self.replay_chars -= skipped_chars
            output.token_ids = output.token_ids[skipped_tokens:]
            output.text = output.text[skipped_chars:]
            output.logprobs = output.logprobs and output.logprobs[skipped_tokens:]
        self.token_ids += output.token_ids
        self.num_chars += len(output.text)
        self.finished = output.finish_reason is not None
        return output if output.token_ids or output.text or self.finished else None


class RequestStream:
    """Outputs of one request, as `get` takes them; bounded by `max_buffered_tokens`.

    A request that is retried goes on behind the tokens received if it has one completion: the text
    that comes with the first k tokens depends on those tokens alone, so a worker that is given them
    produces only what is missing. With several completions it starts again and what was received
    before is skipped, which is exact because the front gives every request a seed.

    Attributes:
        num_retries: workers that were lost while they ran it.
        worker: "ID.GENERATION" of the worker that has it; empty while none does.
        num_cached_tokens: of the prompt, as the worker told last.
        on_progress: called after each change, however slowly the client reads.
    """

    def __init__(self, request: Request, max_buffered_tokens: int) -> None:
        self.request = request
        self.arrived = time.monotonic()
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.num_retries = 0
        self.worker = ""
        self._completions = [CompletionProgress() for _ in range(request.sampling.n)]
        self._max_buffered_tokens = max_buffered_tokens
        self._num_buffered_tokens = 0
        self._buffer: list[RequestOutput] = []
        self.error: Exception | None = None
        self._wake = asyncio.Event()
        self._prompt_reported = False
        self._reason: FinishReason | None = None
        self.num_cached_tokens = 0
        self.on_progress: Callable[[], None] | None = None

    @property
    def num_sequences(self) -> int:
        """Sequences the request occupies."""
        return len(self._completions)

    @property
    def finished(self) -> bool:
        """Whether the last output or an error has arrived (it may still be in the buffer)."""
        return self.error is not None or all(c.finished for c in self._completions)

    @property
    def end(self) -> str:
        """How the request ended, in a word or two; "abort" while it has not."""
        if self.error is not None:
            return type(self.error).__name__
        return self._reason if self.finished and self._reason is not None else "abort"

    @property
    def num_left(self) -> int:
        """Completions that have not ended."""
        return 0 if self.error is not None else sum(not c.finished for c in self._completions)

    @property
    def num_output_tokens(self) -> int:
        """Tokens received, of all completions."""
        return sum(len(completion.token_ids) for completion in self._completions)

    def push(self, output: RequestOutput) -> None:
        """Takes an output in from the worker."""
        if self.error is not None or not 0 <= output.index < len(self._completions):
            return
        new = self._completions[output.index].receive(output)
        if new is None:
            return
        if new.prompt_logprobs is not None:
            new.prompt_logprobs = None if self._prompt_reported else new.prompt_logprobs
            self._prompt_reported = True
        self._reason = new.finish_reason or self._reason
        self._buffer.append(new)
        self._num_buffered_tokens += len(new.token_ids)
        self.num_cached_tokens = max(self.num_cached_tokens, new.num_cached_tokens)
        self._wake.set()
        if self.on_progress is not None:
            self.on_progress()
        if self._num_buffered_tokens > self._max_buffered_tokens:
            self.fail(
                SlowClientError(
                    f"the client left more than {self._max_buffered_tokens} tokens unread"
                )
            )

    def fail(self, error: Exception) -> None:
        """Ends the stream: `get` raises `error`, whatever is still in the buffer."""
        if self.finished:
            return
        self.error = error
        if not self.admitted.done():
            self.admitted.set_exception(error)
            self.admitted.exception()
        self._wake.set()
        if self.on_progress is not None:
            self.on_progress()

    async def get(self) -> list[RequestOutput]:
        """The outputs since the last call, at least one. Raises the error that ended the stream."""
        while not self._buffer and self.error is None:
            self._wake.clear()
            await self._wake.wait()
        if self.error is not None:
            raise self.error
        outputs, self._buffer = self._buffer, []
        self._num_buffered_tokens = 0
        return outputs

    def next_request(self) -> Request:
        """The request as the next worker has to see it.

        Raises:
            RequestDeadlineError: no time is left.
        """
        timeout_s = self.request.timeout_s
        if timeout_s is not None:
            left_s = timeout_s - (time.monotonic() - self.arrived)
            if left_s <= 0:
                raise RequestDeadlineError(f"the request was not finished after {timeout_s:g} s")
            timeout_s = left_s
        request = msgspec.structs.replace(self.request, timeout_s=timeout_s)
        if len(self._completions) == 1:
            token_ids = list(self._completions[0].token_ids)
            return msgspec.structs.replace(request, output_token_ids=token_ids)
        for completion in self._completions:
            completion.replay()
        return request
