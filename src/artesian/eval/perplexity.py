"""Perplexity of a text: how surprised a model is by it, token by token."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artesian.engine.batch import I32, Batch
from artesian.ops.base import F32, Runner

F64 = npt.NDArray[np.float64]

_NORMAL_95_PERCENT = 1.96
_CHUNK_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Result over one text.

    Attributes:
        losses_nats: float64 (num_tokens,), minus the log probability of each counted token.
    """

    losses_nats: F64

    @property
    def num_tokens(self) -> int:
        """How many tokens were counted."""
        return len(self.losses_nats)

    @property
    def mean_nats(self) -> float:
        """Mean loss of a token."""
        return float(self.losses_nats.mean())

    @property
    def value(self) -> float:
        """exp(mean loss): 1 is certainty, the size of the vocabulary is guessing."""
        return math.exp(self.mean_nats)

    @property
    def interval_95(self) -> tuple[float, float]:
        """Where the value lies with 95% confidence, tokens taken as independent."""
        half = _half_width_nats(self.losses_nats)
        return math.exp(self.mean_nats - half), math.exp(self.mean_nats + half)


@dataclass(frozen=True, slots=True)
class PerplexityDifference:
    """One way of computing against another on the same tokens.

    Attributes:
        mean_nats: mean of loss minus base loss; above 0 is worse than the base.
        half_width_nats: the mean lies within plus or minus this with 95% confidence. Narrower than
            the intervals of the two results: what a text is like cancels out.
    """

    mean_nats: float
    half_width_nats: float

    @property
    def ratio(self) -> float:
        """Perplexity divided by the base's."""
        return math.exp(self.mean_nats)


def perplexity(
    runner: Runner,
    token_ids: Sequence[int],
    *,
    window_tokens: int,
    stride_tokens: int,
    block_size_tokens: int,
    first_token_id: int | None = None,
) -> Perplexity:
    """Perplexity of `token_ids` in overlapping windows, every token but the first counted once.

    Args:
        runner: has room for `window_tokens` from block 0 of its arena, for rows of 64 tokens.
        token_ids: the text; at least two tokens.
        window_tokens: most context that a token is predicted from, the first token included.
        stride_tokens: tokens counted in each window; the rest of it is context.
        block_size_tokens: tokens of a KV block of the runner.
        first_token_id: begins each window (Gemma needs its bos); None for none.

    Raises:
        ValueError: sizes that leave nothing to count.
    """
    room = window_tokens - (first_token_id is not None)
    if not 1 <= stride_tokens < room or len(token_ids) < 2:
        raise ValueError(
            f"cannot count {stride_tokens} tokens of windows of {window_tokens} over "
            f"{len(token_ids)} tokens: the stride must be below the window, the text longer than 1"
        )
    prefix = [] if first_token_id is None else [first_token_id]
    table = np.arange(-(-window_tokens // block_size_tokens), dtype=np.int32)[None]
    losses: list[F64] = []
    counted = 1
    while counted < len(token_ids):
        end = min(counted + stride_tokens, len(token_ids))
        # The last token predicts what lies behind the window, so it is not run.
        tokens = prefix + [int(t) for t in token_ids[max(0, end - room) : end]]
        losses.append(_losses(runner, tokens, end - counted, table))
        counted = end
    return Perplexity(np.concatenate(losses))


def difference(result: Perplexity, base: Perplexity) -> PerplexityDifference:
    """Compares two results token by token. Raises `ValueError` when they are of different texts."""
    if result.num_tokens != base.num_tokens:
        raise ValueError(f"{result.num_tokens} tokens against {base.num_tokens}")
    losses = result.losses_nats - base.losses_nats
    return PerplexityDifference(float(losses.mean()), _half_width_nats(losses))


def _half_width_nats(losses: F64) -> float:
    if len(losses) < 2:
        return math.inf
    return _NORMAL_95_PERCENT * float(losses.std(ddof=1)) / math.sqrt(len(losses))


def _losses(runner: Runner, tokens: list[int], num_counted: int, table: I32) -> F64:
    """Losses of the last `num_counted` tokens of a window that starts at position 0."""
    first_row = len(tokens) - 1 - num_counted
    parts = []
    for batch in _chunks(tokens[:-1], first_row, table):
        logits = runner.forward(batch)
        if len(batch.logit_rows):
            wanted = [tokens[int(batch.positions[row]) + 1] for row in batch.logit_rows]
            parts.append(_minus_log_probability(logits, wanted))
    return np.concatenate(parts)


def _chunks(tokens: list[int], first_row: int, table: I32) -> Iterator[Batch]:
    for start in range(0, len(tokens), _CHUNK_TOKENS):
        piece = tokens[start : start + _CHUNK_TOKENS]
        end = start + len(piece)
        yield Batch(
            tokens=np.asarray(piece, np.int32),
            positions=np.arange(start, end, dtype=np.int32),
            row_starts=np.asarray([0, len(piece)], np.int32),
            context_lens=np.asarray([end], np.int32),
            block_tables=table,
            logit_rows=np.arange(max(first_row - start, 0), len(piece), dtype=np.int32),
        )


def _minus_log_probability(logits: F32, wanted: list[int]) -> F64:
    highest = logits.max(axis=1, keepdims=True)
    total: F64 = np.exp(logits - highest).sum(axis=1, dtype=np.float64)
    chosen = logits[np.arange(len(wanted)), wanted].astype(np.float64)
    losses: F64 = np.log(total) + highest[:, 0] - chosen
    return losses
