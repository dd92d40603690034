"""Recorded requests: Mooncake's conversations, and calls of agents."""

import hashlib
import json
import lzma
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artesian.sim.requests import Request

MOONCAKE_BLOCK_TOKENS = 512
AGENT_BLOCK_TOKENS = 32
_CHARACTERS = 4
"""Of a token of English text, about: agents' prompts are recorded as text."""


class TraceError(ValueError):
    """A file is not a trace of this kind; the message says what is wrong where."""


@dataclass(slots=True)
class Recorded:
    """A `Workload` of sessions; a turn comes so long after the answer to the one before it.

    Attributes:
        sessions: of each its start, and its turns with the gaps before them.
    """

    sessions: list[tuple[float, list[tuple[float, Request]]]]

    @property
    def num_prompt_tokens(self) -> int:
        """Of all requests."""
        return sum(r.num_prompt_tokens for _, turns in self.sessions for _, r in turns)

    @property
    def num_blocks(self) -> int:
        """Different blocks of all requests."""
        return len({name for _, turns in self.sessions for _, r in turns for name in r.names})

    @property
    def block_tokens(self) -> int:
        """Tokens of a block."""
        return self.sessions[0][1][0][1].block_tokens

    @property
    def last_arrival_s(self) -> float:
        """When the last session begins."""
        return max(start_s for start_s, _ in self.sessions)

    def arrivals(self) -> Iterable[tuple[float, Request]]:
        """See `Workload`."""
        for start_s, turns in self.sessions:
            yield start_s, turns[0][1]

    def following(self, request: Request) -> tuple[float, Request] | None:
        """See `Workload`."""
        turns = self.sessions[request.session][1]
        return turns[request.turn + 1] if request.turn + 1 < len(turns) else None


def mooncake(path: Path) -> Recorded:
    """Requests of a Mooncake trace (FAST 2025), each a session: who asks is not recorded.

    Raises:
        OSError, TraceError: the file cannot be read, or a line is no request.
    """
    sessions: list[tuple[float, list[tuple[float, Request]]]] = []
    for number, row in enumerate(_rows(path)):
        try:
            names = [b"%d" % int(block) for block in row["hash_ids"]]
            request = Request(
                names=names,
                block_tokens=MOONCAKE_BLOCK_TOKENS,
                num_prompt_tokens=int(row["input_length"]),
                num_output_tokens=int(row["output_length"]),
                kept=names,
                kept_tokens=MOONCAKE_BLOCK_TOKENS,
                session=number,
            )
            sessions.append((float(row["timestamp"]) / 1e3, [(0.0, request)]))
        except (KeyError, TypeError, ValueError) as error:
            raise TraceError(f"{path}: line {number + 1} is no request: {error!r}") from None
    return Recorded(sessions)


def agents(paths: Iterable[Path], start_share: float) -> Recorded:
    """Calls of agents, grouped by session; gaps are the recorded ones from call to call.

    Args:
        start_share: sessions begin after so much of the recorded time, so that they meet.

    Raises:
        OSError, TraceError: a file cannot be read, or a line is no call.
    """
    calls: dict[tuple[str, str], list[tuple[float, str, str]]] = {}
    starts: dict[str, float] = {}
    for path in paths:
        for number, row in enumerate(_rows(path)):
            try:
                time_s = float(row["timestamp"]) / 1e6
                call = (time_s, str(row["input"]), str(row["output"]))
                calls.setdefault((path.name, str(row["session_id"])), []).append(call)
            except (KeyError, TypeError, ValueError) as error:
                raise TraceError(f"{path}: line {number + 1} is no call: {error!r}") from None
            starts[path.name] = min(time_s, starts.get(path.name, time_s))
    sessions = []
    for number, ((file, _), turns) in enumerate(calls.items()):
        requests = []
        before_s = turns[0][0]
        for index, (time_s, prompt, answer) in enumerate(turns):
            requests.append((time_s - before_s, _call(number, index, prompt, answer)))
            before_s = time_s
        sessions.append(((turns[0][0] - starts[file]) * start_share, requests))
    return Recorded(sessions)


def _call(session: int, turn: int, prompt: str, answer: str) -> Request:
    names = _chain(prompt)
    return Request(
        names=names,
        block_tokens=AGENT_BLOCK_TOKENS,
        num_prompt_tokens=max(1, len(prompt) // _CHARACTERS),
        num_output_tokens=max(1, len(answer) // _CHARACTERS),
        kept=names,
        kept_tokens=AGENT_BLOCK_TOKENS,
        session=session,
        turn=turn,
    )


def _chain(text: str) -> list[bytes]:
    """Names of the full blocks of a text: each covers everything before its end."""
    size = AGENT_BLOCK_TOKENS * _CHARACTERS
    digest = hashlib.blake2b(digest_size=16)
    names = []
    for start in range(0, len(text) - size + 1, size):
        digest.update(text[start : start + size].encode())
        names.append(digest.digest())
    return names


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as file:
        for number, line in enumerate(file):
            try:
                row = json.loads(line)
            except ValueError:
                raise TraceError(f"{path}: line {number + 1} is no JSON") from None
            if not isinstance(row, dict):
                raise TraceError(f"{path}: line {number + 1} is no object")
            yield row
