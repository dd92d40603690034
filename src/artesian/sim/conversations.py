"""Conversations made to the statistics of ShareGPT that CachedAttention reports."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from artesian.sim.layout import Context, Layout
from artesian.sim.requests import Request

SINGLE_SHARE = 0.27
"""Sessions of one turn."""
MEAN_TURNS = 5.75
_MOST_TURNS = 60
_MEDIAN_TURN_TOKENS = 430.0
_SPREAD = 0.9
"""Standard deviation of the logarithm of a session's tokens in a turn."""
_TURN_SPREAD = 0.7
"""The same, of turns around their session's."""
_OUTPUT_SHARE = 0.6
"""Of a turn's tokens, on average."""
_MIN_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Turn:
    """New tokens of a turn, tokens of its answer, and the time until the next turn comes."""

    num_new: int
    num_output: int
    gap_s: float


@dataclass(frozen=True, slots=True)
class Session:
    """When a conversation begins, and its turns."""

    arrival_s: float
    turns: tuple[Turn, ...]

    @property
    def num_tokens(self) -> int:
        """All turns together, nothing cut."""
        return sum(turn.num_new + turn.num_output for turn in self.turns)


def make_sessions(
    num_sessions: int, sessions_per_s: float, mean_gap_s: float, seed: int = 0
) -> list[Session]:
    """Sessions after the paper's statistics: 73% have several turns, 5.75 on average; 47% have more
    than 2,048 tokens and 30% more than 4,096. They begin as a Poisson process.

    Ours: turns are geometric behind the second, tokens log-normal with a factor of the session and
    one of the turn. The paper does not say how long people think: gaps are exponential around
    `mean_gap_s`, from answer to next turn.
    """
    random = np.random.default_rng(seed)
    arrivals = np.cumsum(random.exponential(1 / sessions_per_s, num_sessions))
    mean_more = (MEAN_TURNS - SINGLE_SHARE) / (1 - SINGLE_SHARE) - 2
    num_turns = 2 + random.geometric(1 / (1 + mean_more), num_sessions) - 1
    num_turns[random.random(num_sessions) < SINGLE_SHARE] = 1
    num_turns = np.minimum(num_turns, _MOST_TURNS)
    scales = random.lognormal(np.log(_MEDIAN_TURN_TOKENS), _SPREAD, num_sessions)
    sessions = []
    for arrival_s, count, scale in zip(arrivals, num_turns, scales, strict=True):
        tokens = scale * random.lognormal(0.0, _TURN_SPREAD, count)
        shares = random.beta(6 * _OUTPUT_SHARE, 6 * (1 - _OUTPUT_SHARE), count)
        outputs = np.maximum(tokens * shares, _MIN_TOKENS).astype(int)
        news = np.maximum(tokens * (1 - shares), _MIN_TOKENS).astype(int)
        gaps = random.exponential(mean_gap_s, count)
        turns = tuple(map(Turn, news.tolist(), outputs.tolist(), gaps.tolist()))
        sessions.append(Session(float(arrival_s), turns))
    return sessions


class Conversations:
    """A `Workload` of sessions, whose turns wait for their answers.

    When the window overflows, the older half of the history goes, as in the paper, and the rest
    stays valid. What is new and the answer take at most a quarter of the window each.
    """

    def __init__(self, sessions: list[Session], layout: Layout, window_tokens: int) -> None:
        self._sessions = sessions
        self._layout = layout
        self._window_tokens = window_tokens
        self._contexts: dict[int, Context] = {}

    def arrivals(self) -> Iterable[tuple[float, Request]]:
        """See `Workload`."""
        for number, session in enumerate(self._sessions):
            self._contexts[number] = Context(number)
            yield session.arrival_s, self._request(number, 0)

    def following(self, request: Request) -> tuple[float, Request] | None:
        """See `Workload`."""
        turns = self._sessions[request.session].turns
        if request.turn + 1 == len(turns):
            del self._contexts[request.session]
            return None
        return turns[request.turn].gap_s, self._request(request.session, request.turn + 1)

    def _request(self, number: int, index: int) -> Request:
        context = self._contexts[number]
        turn = self._sessions[number].turns[index]
        quarter = self._window_tokens // 4
        num_output = min(turn.num_output, quarter)
        num_new = min(turn.num_new, quarter)
        while context.num_tokens + num_new + num_output > self._window_tokens:
            self._layout.cut(context, -(-context.num_tokens // 2))
        names, block_tokens = context.names, context.block_tokens
        num_prompt = context.num_tokens + num_new
        self._layout.grow(context, num_new + num_output)
        return Request(
            names=names,
            block_tokens=block_tokens,
            num_prompt_tokens=num_prompt,
            num_output_tokens=num_output,
            kept=context.names,
            kept_tokens=context.block_tokens,
            session=number,
            turn=index,
        )
