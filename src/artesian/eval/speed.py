"""How long a step of decoding takes, in each of several ways."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from artesian.eval.session import Session
from artesian.eval.ways import Way


@dataclass(slots=True)
class StepTimes:
    """Seconds of the steps of one way.

    Attributes:
        steps_s: of each step.
        attention_s: what all layers' attention took of it.
    """

    steps_s: list[float] = field(default_factory=list)
    attention_s: list[float] = field(default_factory=list)

    @property
    def step_s(self) -> float:
        """Median of the steps."""
        return statistics.median(self.steps_s)

    @property
    def attention(self) -> float:
        """Median of the attention of a step, seconds."""
        return statistics.median(self.attention_s)


def time_steps(
    session: Session,
    ways: Sequence[Way],
    tokens: Sequence[int],
    *,
    num_sequences: int = 1,
    num_rounds: int = 3,
) -> dict[str, StepTimes]:
    """Times decode steps behind the session's context.

    The ways take turns within each round; a round's first step warms up and does not count. A way
    that skips is timed on the context as it was read, whose KV it would not have: it reads as much.

    Args:
        session: has read a context, and room for `num_sequences` copies.
        ways: what is timed.
        tokens: what the sequences go on with in a round, all the same; at least two.
        num_sequences: of a batch.
        num_rounds: how often.

    Raises:
        ValueError: there are fewer than two tokens, or there is no room.
    """
    if len(tokens) < 2:
        raise ValueError("a round takes two tokens at least: the first warms up")
    forks = session.copies(ways[0], num_sequences)
    times = {way.name: StepTimes() for way in ways}
    session.runner.set_trace(True)
    try:
        for _ in range(num_rounds):
            for way in ways:
                for fork in forks:
                    fork.way, fork.num_tokens = way, session.num_context_tokens
                for number, token in enumerate(tokens):
                    session.runner.take_trace()
                    start = time.perf_counter()
                    session.step(forks, [token] * num_sequences)
                    end = time.perf_counter()
                    if number:
                        layers = session.runner.take_trace()
                        times[way.name].steps_s.append(end - start)
                        times[way.name].attention_s.append(
                            sum(layer.end_s - layer.ready_s for layer in layers)
                        )
    finally:
        session.runner.set_trace(False)
    return times
