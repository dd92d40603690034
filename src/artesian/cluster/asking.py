"""Questions to the workers of a cluster."""

import asyncio
from collections.abc import Sequence
from itertools import count

from artesian.cluster.member import Member
from artesian.cluster.replies import merge
from artesian.engine.questions import DeleteSession, Question, Reply
from artesian.worker.base import InternalEngineError, WorkerUnavailableError
from artesian.worker.messages import Answer, Ask

ANSWER_TIMEOUT_S = 30.0
"""The longest step and a bit: questions are answered between steps."""


class Asking:
    """Questions that are open, and who has to answer them."""

    def __init__(self) -> None:
        self._call_ids = count()
        self._open: dict[int, tuple[Member, asyncio.Future[Reply]]] = {}

    async def ask(self, question: Question, members: Sequence[Member]) -> Reply:
        """Asks all of them and merges what they answer.

        Raises:
            WorkerUnavailableError: nobody answered; or not everybody, for a deletion.
            InternalEngineError: a defect showed.
        """
        if not members:
            raise WorkerUnavailableError("the model is not available: no worker is ready")
        results = await asyncio.gather(
            *(self._ask_one(question, member) for member in members), return_exceptions=True
        )
        replies: list[Reply] = []
        errors: list[BaseException] = []
        for result in results:
            if isinstance(result, BaseException):
                errors.append(result)
            else:
                replies.append(result)
        needs_all = isinstance(question, DeleteSession)
        for error in errors:
            if needs_all or not replies or not isinstance(error, WorkerUnavailableError):
                raise error
        return merge(question, replies)

    def answered(self, member: Member, answer: Answer) -> None:
        """A worker's answer; what nobody waits for any more is ignored."""
        asked, future = self._open.get(answer.call_id, (None, None))
        if asked is not member or future is None or future.done():
            return
        if answer.reply is None:
            future.set_exception(InternalEngineError(answer.error))
        else:
            future.set_result(answer.reply)

    def leave(self, member: Member, cause: str) -> None:
        """A worker is gone, or does not answer any more."""
        for asked, future in self._open.values():
            if asked is member and not future.done():
                future.set_exception(WorkerUnavailableError(f"{member.name} {cause}"))

    def fail_all(self, reason: str) -> None:
        """Ends all questions."""
        for _, future in self._open.values():
            if not future.done():
                future.set_exception(WorkerUnavailableError(reason))

    async def _ask_one(self, question: Question, member: Member) -> Reply:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        call_id = next(self._call_ids)
        self._open[call_id] = member, future
        member.send(Ask(call_id, question))
        try:
            return await asyncio.wait_for(future, ANSWER_TIMEOUT_S)
        except TimeoutError:
            message = f"{member.name} did not answer within {ANSWER_TIMEOUT_S:.0f} s"
            raise WorkerUnavailableError(message) from None
        finally:
            del self._open[call_id]
