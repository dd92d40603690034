"""From text and conversations to token ids, without stalling the event loop."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from artesian.api.errors import ApiError
from artesian.api.protocol.chat import ChatMessage
from artesian.loader.base import Tokenizer

# Below this, handing the work to a thread costs more than the work.
INLINE_CHARS = 2_000
LONG_CHARS = 200_000
UNDECODED = "\N{REPLACEMENT CHARACTER}"

T = TypeVar("T")


class PromptEncoder:
    """The tokenizer with two threads, so that very long texts only wait for each other."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._threads = ThreadPoolExecutor(1, "tokenize")
        self._long_threads = ThreadPoolExecutor(1, "tokenize-long")

    async def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""
        return await self._run(len(text), lambda: self.tokenizer.encode(text, add_special_tokens))

    async def encode_chat(
        self,
        messages: Sequence[ChatMessage],
        add_generation_prompt: bool,
        template_kwargs: dict[str, Any],
        add_special_tokens: bool = False,
    ) -> list[int]:
        """Token ids of a conversation. Raises `ApiError` (400) when the template cannot show it."""
        turns = [_turn(message) for message in messages]

        def render() -> list[int]:
            text = self.tokenizer.apply_chat_template(
                turns, add_generation_prompt=add_generation_prompt, **template_kwargs
            )
            return self.tokenizer.encode(text, add_special_tokens)

        reserved = template_kwargs.keys() & {"messages", "add_generation_prompt"}
        if reserved:
            field = f"chat_template_kwargs.{min(reserved)}"
            raise ApiError(400, f"{field}: this variable is set by the server", param=field)
        try:
            return await self._run(sum(len(message.text()) for message in messages), render)
        except ValueError as error:
            raise ApiError(400, f"messages: {error}", param="messages") from error

    async def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens included."""
        return await self._run(
            len(token_ids), lambda: self.tokenizer.decode(token_ids, skip_special_tokens=False)
        )

    def token_text(self, token_id: int) -> str:
        """One token as text; bytes that are no character alone become U+FFFD."""
        return self.tokenizer.token_bytes(token_id).decode(errors="replace")

    def close(self) -> None:
        """Ends the threads; what they still do is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._long_threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, num_chars: int, work: Callable[[], T]) -> T:
        if num_chars <= INLINE_CHARS:
            return work()
        threads = self._threads if num_chars <= LONG_CHARS else self._long_threads
        return await asyncio.get_running_loop().run_in_executor(threads, work)


def _turn(message: ChatMessage) -> dict[str, object]:
    turn: dict[str, object] = {
        # Templates know "system" only; "developer" is OpenAI's newer word for it.
        "role": "system" if message.role == "developer" else message.role,
        "content": message.text(),
    }
    if message.name is not None:
        turn["name"] = message.name
    return turn
