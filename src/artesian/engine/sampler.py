"""Chooses the next tokens from logits: penalties and biases, then temperature and filters.

Log probabilities are those of the model itself, before penalties, biases and temperature.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artesian.engine import sampling_reference as kernels
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

    def sample(self, logits: F32, sequences: list[Sequence]) -> Sampled:
        """The next token of each sequence; row i of `logits` (m, vocab_size) belongs to
        sequences[i].

        May change `logits`.
        """
        if all(sequence.is_plain_greedy for sequence in sequences):
            tokens = logits.argmax(axis=1)
            return Sampled(tokens.tolist(), failed=_find_failed(logits, tokens))
        raw = self._raw_for_logprobs(logits, sequences)
        if not logits.flags.writeable:
            logits = logits.copy()
        for row, sequence in zip(logits, sequences, strict=True):
            _adjust(row, sequence)
        tokens = self._choose(logits, sequences)
        failed = _find_failed(logits, tokens)
        logprobs = None
        if raw is not None:
            logprobs = _logprobs(raw, tokens, [s.sampling.logprobs for s in sequences], failed)
        return Sampled(tokens.tolist(), logprobs, failed)

    def _choose(self, logits: F32, sequences: list[Sequence]) -> npt.NDArray[np.int32]:
        if self._cached is None or sequences != self._cached_for:
            params = [sequence.sampling for sequence in sequences]
            self._cached = (
                np.array([p.temperature for p in params], np.float32),
                np.array([max(p.top_k, 0) for p in params], np.int32),
                np.array([p.top_p for p in params], np.float32),
                np.array([p.min_p for p in params], np.float32),
                np.array([sequence.seed for sequence in sequences], np.uint64),
            )
            self._cached_for = list(sequences)
        steps = np.array([sequence.num_output_tokens for sequence in sequences], np.uint64)
        return kernels.sample(logits, *self._cached, steps)

    def _raw_for_logprobs(self, logits: F32, sequences: list[Sequence]) -> F32 | None:
        """The model's logits, a copy if they are about to change; None when nobody asks for
        them."""
        if all(sequence.sampling.logprobs is None for sequence in sequences):
            return None
        return logits.copy()


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
        known.extend(_logprobs(rows, chosen, num_tops, _find_failed(rows, chosen)))


def _adjust(row: F32, sequence: Sequence) -> None:
    """Penalties and biases on one row; too early ends are ruled out."""
    params = sequence.sampling
    if sequence.has_penalties:
        num_prompt = sequence.num_prompt_tokens
        kernels.penalize(
            row,
            sequence.tokens[:num_prompt],
            sequence.tokens[num_prompt : sequence.num_tokens],
            params.repetition_penalty,
            params.presence_penalty,
            params.frequency_penalty,
            sequence.bias_ids,
            sequence.bias_values,
        )
    if sequence.num_output_tokens < params.min_tokens:
        row[list(sequence.stop_token_ids)] = -np.inf


def _find_failed(logits: F32, tokens: npt.NDArray[np.generic]) -> frozenset[int]:
    """Rows whose chosen logit is not finite: NaN wins every comparison in argmax."""
    chosen = logits[np.arange(len(tokens)), tokens]
    if np.isfinite(chosen).all():
        return frozenset()
    return frozenset(np.flatnonzero(~np.isfinite(chosen)).tolist())


def _logprobs(
    logits: F32,
    tokens: npt.NDArray[np.int32],
    num_tops: list[int | None],
    failed: frozenset[int],
) -> list[OutputLogprobs | None]:
    """Per row what `num_tops` asks for; None where it asks for nothing or the row failed."""
    most = max(num for num in num_tops if num is not None)
    values, top_ids, top_values = kernels.logprobs(logits, tokens.astype(np.int32), most)
    result: list[OutputLogprobs | None] = []
    for row, num_top in enumerate(num_tops):
        if num_top is None or row in failed:
            result.append(None)
            continue
        ids, tops = top_ids[row, :num_top].tolist(), top_values[row, :num_top].tolist()
        result.append(
            OutputLogprobs(
                TokenLogprob(int(tokens[row]), float(values[row])),
                [TokenLogprob(i, value) for i, value in zip(ids, tops, strict=True)],
            )
        )
    return result
