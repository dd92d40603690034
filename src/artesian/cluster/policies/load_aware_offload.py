"""Adrenaline's admission: offload as much as hides behind local attention."""

from typing import Literal

from artesian.cluster.policies.base import (
    DecodeBatch,
    OffloadAdmission,
    OffloadedSequence,
    OffloadLimits,
)

Combinator = Literal["any", "all"]


class LoadAwareOffload(OffloadAdmission):
    """Algorithm 1 of Adrenaline (2503.20552), reconstructed; callbacks and the guard are ours.

    C1: offloaded sequences and the new one, all as long as they may become, have at most OB times
    the local tokens. C2: with the new one, both tokens and sequences are at most OB times the local
    ones. `any` offloads if one of the two holds, `all` if both do; which the paper means we do not
    know. Either way tokens stay within OB, with `all` the number of sequences too. Besides, remote
    attention must end no later than local attention (the guard of `OffloadLimits`).
    """

    def __init__(self, combinator: Combinator = "any") -> None:
        if combinator not in ("any", "all"):
            raise ValueError(f"combinator must be any or all, not {combinator!r}")
        self._combinator = combinator

    def admits(
        self, num_tokens: int, max_tokens: int, batch: DecodeBatch, limits: OffloadLimits
    ) -> bool:
        """See `OffloadAdmission`."""
        room = limits.ratio * batch.local_tokens
        tokens = batch.offloaded_tokens + num_tokens
        c1 = batch.reserved_tokens + max_tokens <= room
        seqs_fit = batch.offloaded_seqs + 1 <= limits.ratio * batch.local_seqs
        c2 = tokens <= room and seqs_fit
        fits = c1 or c2 if self._combinator == "any" else c1 and c2
        return fits and limits.is_hidden(batch.local_tokens, tokens)

    def call_back(self, batch: DecodeBatch, limits: OffloadLimits) -> list[str]:
        """As few bytes as bring the batch back within OB: the shortest sequence that is enough, or
        the longest and again."""
        left = sorted(batch.offloaded, key=lambda s: (s.num_tokens, s.request_id))
        local_seqs, local_tokens = batch.local_seqs, batch.local_tokens
        tokens = batch.offloaded_tokens
        called: list[str] = []
        while left:
            excess = self._excess_tokens(local_tokens, tokens, limits)
            if excess <= 0 and not self._has_many(local_seqs, len(left), limits):
                break
            index = _smallest_of(left, excess)
            sequence = left.pop(index)
            called.append(sequence.request_id)
            tokens -= sequence.num_tokens
            local_tokens += sequence.num_tokens
            local_seqs += 1
        return called

    def _has_many(self, local_seqs: int, num_offloaded: int, limits: OffloadLimits) -> bool:
        return self._combinator == "all" and num_offloaded > limits.ratio * local_seqs

    def _excess_tokens(self, local_tokens: float, tokens: float, limits: OffloadLimits) -> float:
        """How many tokens have to come here: each that does counts on both sides."""
        excess = (tokens - limits.ratio * local_tokens) / (1 + limits.ratio)
        if excess <= 0 and not limits.is_hidden(local_tokens, tokens):
            remote = 1 / limits.executor_bytes_per_s
            local = 1 / limits.decode_bytes_per_s
            late_s = limits.sync_s + limits.kv_bytes * (tokens * remote - local_tokens * local)
            excess = late_s / (limits.kv_bytes * (remote + local))
        return excess


def _smallest_of(sequences: list[OffloadedSequence], num_tokens: float) -> int:
    """Index of the first one that has so many; of the last one if none has. Shortest come first."""
    enough = (i for i, sequence in enumerate(sequences) if sequence.num_tokens >= num_tokens)
    return next(enough, len(sequences) - 1)
