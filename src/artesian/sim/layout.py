"""How a conversation's KV is cut into what is kept, fetched and evicted as one."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True)
class Context:
    """What a conversation has in the model's window.

    Attributes:
        names: of the KV of its first tokens, first block first; block_tokens: of each of these.
        num_tokens: all of them.
    """

    session: int
    names: list[bytes] = field(default_factory=list)
    block_tokens: int = 0
    num_tokens: int = 0
    num_named: int = 0
    """Names that it has had so far."""


class Layout(Protocol):
    """A granularity."""

    def grow(self, context: Context, num_tokens: int) -> None:
        """So many tokens were added."""

    def cut(self, context: Context, num_tokens: int) -> None:
        """So many of the oldest tokens went; the KV of the others stays valid."""


class SessionLayout:
    """A session is one piece: CachedAttention's granularity."""

    def grow(self, context: Context, num_tokens: int) -> None:
        """See `Layout`."""
        context.names = [b"%d" % context.session]
        context.num_tokens += num_tokens
        context.block_tokens = context.num_tokens

    def cut(self, context: Context, num_tokens: int) -> None:
        """See `Layout`."""
        context.num_tokens = max(0, context.num_tokens - num_tokens)
        context.block_tokens = context.num_tokens
        if not context.num_tokens:
            context.names = []


class BlockLayout:
    """Blocks of a fixed number of tokens; what does not fill one is not kept."""

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens

    def grow(self, context: Context, num_tokens: int) -> None:
        """See `Layout`."""
        context.num_tokens += num_tokens
        context.block_tokens = self._block_tokens
        num_new = context.num_tokens // self._block_tokens - len(context.names)
        first = context.num_named
        context.num_named += num_new
        new = [b"%d:%d" % (context.session, number) for number in range(first, first + num_new)]
        context.names = context.names + new

    def cut(self, context: Context, num_tokens: int) -> None:
        """See `Layout`; whole blocks go, and behind the last one what does not fill one."""
        num_blocks = -(-num_tokens // self._block_tokens)
        context.names = context.names[num_blocks:]
        context.num_tokens = max(0, context.num_tokens - num_blocks * self._block_tokens)
