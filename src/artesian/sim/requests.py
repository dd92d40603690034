"""What is asked of the simulated server."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True, eq=False)
class Request:
    """One turn.

    Attributes:
        names: KV that serves it if it is there, first block first.
        block_tokens: tokens of each of these.
        num_prompt_tokens: the history, as far as it fits, and what is new.
        num_output_tokens: of the answer.
        kept: KV that exists at the end, first block first; kept_tokens: of each of these.
        session, turn: where it comes from.
    """

    names: list[bytes]
    block_tokens: int
    num_prompt_tokens: int
    num_output_tokens: int
    kept: list[bytes] = field(repr=False)
    kept_tokens: int
    session: int = 0
    turn: int = 0


class Workload(Protocol):
    """Requests, some of which come only after others were answered."""

    def arrivals(self) -> Iterable[tuple[float, Request]]:
        """Those that come by themselves, with their times."""

    def following(self, request: Request) -> tuple[float, Request] | None:
        """The one that comes so many seconds after `request` was answered, if any."""
