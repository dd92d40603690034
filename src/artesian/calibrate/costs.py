"""Times what sublayers take on this machine."""

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from artesian.engine.batch import Batch
from artesian.eval.session import BLOCK_TOKENS, Session
from artesian.models.base import ModelConfig
from artesian.skip import SkipSet, StepCosts

_SHORT_TOKENS = 64
_PROMPT_ROWS = 128
_ROUNDS = 7


def measure_costs(
    session: Session,
    config: ModelConfig,
    context_tokens: int,
    progress: Callable[[str, int, int], None],
) -> tuple[StepCosts, StepCosts]:
    """Costs of a row of decode and of a prompt; contexts of up to `context_tokens` are timed.

    What the KV holds does not change how long it takes to read.
    """
    session.clear()
    return (
        _costs(session, config, context_tokens, 1, progress),
        _costs(session, config, context_tokens, _PROMPT_ROWS, progress),
    )


def _costs(
    session: Session,
    config: ModelConfig,
    context_tokens: int,
    num_rows: int,
    progress: Callable[[str, int, int], None],
) -> StepCosts:
    layers = range(config.num_layers)
    attention = _skip([2 * layer for layer in layers])
    ffns = _skip([2 * layer + 1 for layer in layers])
    ways = [
        (start, skip) for start in (_SHORT_TOKENS, context_tokens) for skip in (None, attention)
    ]
    ways.append((_SHORT_TOKENS, ffns))
    times: list[list[float]] = [[] for _ in ways]
    for number in range(_ROUNDS):
        progress("measure times", number, _ROUNDS)
        for way, (start, skip) in enumerate(ways):
            times[way].append(_time(session, start, num_rows, skip) / num_rows)
    whole, without, far, far_without, no_ffn = map(statistics.median, times)
    windows = config.layer_windows or [None] * config.num_layers
    seen = [
        sum(min(start, window or start) for window in windows)
        for start in (_SHORT_TOKENS, context_tokens)
    ]
    growth = max(0.0, (far - far_without) - (whole - without))
    token_s = growth / max(1, seen[1] - seen[0])
    attention_s = max(0.0, whole - without - token_s * seen[0]) / config.num_layers
    ffn_s = max(0.0, whole - no_ffn) / config.num_layers
    rest_s = max(0.0, without - ffn_s * config.num_layers)
    return StepCosts(rest_s=rest_s, ffn_s=ffn_s, attention_s=attention_s, attention_token_s=token_s)


def _skip(sublayers: Sequence[int]) -> SkipSet:
    return SkipSet(tuple(sublayers), (1.0,) * len(sublayers))


def _time(session: Session, start: int, num_rows: int, skip: SkipSet | None) -> float:
    end = start + num_rows
    batch = Batch(
        tokens=np.full(num_rows, 5, np.int32),
        positions=np.arange(start, end, dtype=np.int32),
        row_starts=np.asarray([0, num_rows], np.int32),
        context_lens=np.asarray([end], np.int32),
        block_tables=np.arange(-(-end // BLOCK_TOKENS), dtype=np.int32)[None],
        logit_rows=np.asarray([num_rows - 1], np.int32),
        skips=[] if skip is None else [(0, skip)],
    )
    before = time.perf_counter()
    session.runner.forward(batch)
    return time.perf_counter() - before
