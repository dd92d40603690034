"""Chooses the next tokens from logits: penalties and biases, then temperature and filters.

Log probabilities are those of the model itself, before penalties, biases and temperature.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artesian import _core
from artesian.engine.base import OutputLogprobs, TokenLogprob
from artesian.engine.sequence import Sequence

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One step's choice.

    Attributes:
        tokens: per row of logits; logprobs: per row, where wanted.
        failed: rows without a usable number, so without a meaningful token.
    """

    tokens: list[int]
    logprobs: list[OutputLogprobs | None] | None = None
    failed: frozenset[int] = frozenset()


class Sampler:
    """Stateless but for arrays kept while the same sequences decode."""

    def __init__(self) -> None:
        self._cached_for: list[Sequence] = []
        self._cached: tuple[F32, I32, F32, F32, U64] | None = None

    def sample(
        self, logits: F32, sequences: list[Sequence], ahead: list[int] | None = None
    ) -> Sampled:
        """The next token of each sequence, from its row of `logits` (num_sequences, vocab_size).

        `ahead`: so many drafted tokens of each count as its own; None: nobody's do. May change
        `logits`.
        """
        if all(sequence.is_plain_greedy for sequence in sequences):
            tokens = logits.argmax(axis=1)  # NaN counts as largest, so it shows in what is chosen
            return Sampled(tokens.tolist(), failed=_not_finite(logits, tokens))
        wanted = [i for i, s in enumerate(sequences) if s.sampling.logprobs is not None]
        raw = logits[wanted] if wanted else None  # a copy: the rows are about to change
        ahead = ahead or [0] * len(sequences)
        for row, sequence, num_ahead in zip(logits, sequences, ahead, strict=True):
            _adjust(row, sequence, num_ahead)
        tokens, failed = self._choose(logits, sequences, ahead)
        if raw is None:
            return Sampled(tokens.tolist(), failed=failed)
        num_tops = [sequences[i].sampling.logprobs for i in wanted]
        logprobs: list[OutputLogprobs | None] = [None] * len(sequences)
        for i, entry in zip(wanted, _logprobs(raw, tokens[wanted], num_tops), strict=True):
            logprobs[i] = entry
        return Sampled(tokens.tolist(), logprobs, failed)

    def _choose(
        self, logits: F32, sequences: list[Sequence], ahead: list[int]
    ) -> tuple[I32, frozenset[int]]:
        """Tokens, and the rows that have none."""
        if self._cached is None or sequences != self._cached_for:
            params = [sequence.sampling for sequence in sequences]
            self._cached = (
                np.array([p.temperature for p in params], np.float32),
                np.array([p.top_k for p in params], np.int32),
                np.array([p.top_p for p in params], np.float32),
                np.array([p.min_p for p in params], np.float32),
                np.array([sequence.seed for sequence in sequences], np.uint64),
            )
            self._cached_for = list(sequences)
        pairs = zip(sequences, ahead, strict=True)
        steps = np.array([sequence.num_output_tokens + num for sequence, num in pairs], np.uint64)
        try:
            return _core.sample(logits, *self._cached, steps), frozenset()
        except _core.InvalidLogitsError as error:
            logits[error.rows] = 0
            return _core.sample(logits, *self._cached, steps), frozenset(error.rows)


def add_prompt_logprobs(sequence: Sequence, start: int, logits: F32) -> None:
    """Adds to `sequence.prompt_logprobs` what `logits`, of the rows from position `start` on, say.

    Row i tells about the token at start + i + 1. Rows known from before a preemption are skipped.
    """
    known = sequence.prompt_logprobs
    assert known is not None
    skip = len(known) - 1 - start
    chosen = sequence.tokens[
        start + 1 + skip : min(start + 1 + len(logits), sequence.num_prompt_tokens)
    ]
    if len(chosen):
        rows = logits[skip : skip + len(chosen)]
        num_tops = [sequence.sampling.prompt_logprobs] * len(chosen)
        known.extend(_logprobs(rows, chosen, num_tops))


def _adjust(row: F32, sequence: Sequence, num_ahead: int) -> None:
    """Penalties and biases on one row; too early ends are ruled out."""
    params = sequence.sampling
    if sequence.has_penalties:
        num_prompt = sequence.num_shown_prompt_tokens
        _core.penalize(
            row,
            sequence.tokens[:num_prompt],
            sequence.tokens[num_prompt : sequence.num_tokens + num_ahead],
            params.repetition_penalty,
            params.presence_penalty,
            params.frequency_penalty,
            sequence.bias_ids,
            sequence.bias_values,
        )
    if sequence.num_output_tokens + num_ahead < params.min_tokens:
        row[list(sequence.stop_token_ids)] = -np.inf


def _not_finite(logits: F32, tokens: npt.NDArray[np.int64]) -> frozenset[int]:
    """Rows whose chosen logit is NaN or infinite."""
    chosen = logits[np.arange(len(tokens)), tokens]
    if np.isfinite(chosen).all():
        return frozenset()
    return frozenset(np.flatnonzero(~np.isfinite(chosen)).tolist())


def _logprobs(logits: F32, tokens: I32, num_tops: list[int | None]) -> list[OutputLogprobs | None]:
    """Log probabilities of each row's token and of as many others as asked; None for bad rows."""
    most = min(max(num or 0 for num in num_tops), logits.shape[1])
    bad: list[int] = []
    try:
        values, top_ids, top_values = _core.logprobs(logits, tokens, most)
    except _core.InvalidLogitsError as error:
        bad = error.rows
        logits = logits.copy()
        logits[bad] = 0
        values, top_ids, top_values = _core.logprobs(logits, tokens, most)
    result: list[OutputLogprobs | None] = []
    for row, num_top in enumerate(num_tops):
        if row in bad:
            result.append(None)
            continue
        tops = zip(top_ids[row, :num_top].tolist(), top_values[row, :num_top].tolist(), strict=True)
        result.append(
            OutputLogprobs(
                TokenLogprob(int(tokens[row]), float(values[row])),
                [TokenLogprob(token_id, value) for token_id, value in tops if token_id >= 0],
            )
        )
    return result
