"""How well ways of going on from a long text predict what follows, beside the exact one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artesian.eval.kept import Kept
from artesian.eval.perplexity import Perplexity, PerplexityDifference, difference
from artesian.eval.score import by_skip
from artesian.eval.session import Forcing, Session, log_probabilities
from artesian.eval.ways import Way
from artesian.ops.base import F32

F64 = npt.NDArray[np.float64]

_FORCING = Forcing(audit_every=4)


@dataclass(frozen=True, slots=True)
class LateResult:
    """One way over the late positions of texts.

    Attributes:
        perplexity: of the tokens at these positions.
        difference: from the exact way; None for itself.
        divergence_nats: float64 (num_tokens,), Kullback-Leibler divergence of the way's prediction
            from the exact way's: sum of exact * log(exact / this).
        agrees: bool (num_tokens,), whether both find the same token likeliest.
        kept: what was attended to; of the exact way only how much there was.
        bytes_read: of KV, for a token.
    """

    way: str
    perplexity: Perplexity
    difference: PerplexityDifference | None
    divergence_nats: F64
    agrees: npt.NDArray[np.bool_]
    kept: Kept
    bytes_read: float


def measure_late(
    session: Session, ways: Sequence[Way], passages: Sequence[Sequence[int]], num_late: int
) -> list[LateResult]:
    """Reads each passage but its last tokens in one go, and these one by one, in every way.

    Args:
        session: has room for the passages, and a fork for each way.
        ways: the first is exact.
        passages: token ids, what begins a text included.
        num_late: tokens that are predicted at each passage's end.

    Raises:
        ValueError: the first way is not exact, or a passage is too short.
    """
    if not ways or not ways[0].is_exact:
        raise ValueError("the first way must be the exact one: the others are compared with it")
    if any(len(passage) < num_late + 2 for passage in passages):
        raise ValueError(f"a passage is too short to predict {num_late} tokens behind it")
    shape = (len(passages), num_late)
    losses = {way.name: np.zeros(shape) for way in ways}
    divergences = {way.name: np.zeros(shape) for way in ways}
    agrees = {way.name: np.ones(shape, bool) for way in ways}
    kept = {way.name: Kept() for way in ways}
    groups = list(by_skip(ways))
    for passage, tokens in enumerate(passages):
        context, tail = tokens[: -num_late - 1], tokens[-num_late - 1 :]
        exact: list[F32] = []
        for skip, group in groups:
            session.read(context, skip)
            forks = session.forks(group)
            for step, _, logits in session.force(forks, [tail[:-1]] * len(forks), _FORCING):
                logs = log_probabilities(logits)
                if group[0].is_exact:
                    # Kept for the groups that skip, if there are any.
                    exact_logs = logs[0]
                    exact += [exact_logs] * (len(groups) > 1)
                else:
                    exact_logs = exact[step]
                divergence, is_same = _compare(exact_logs, logs)
                for row, way in enumerate(group):
                    losses[way.name][passage, step] = -logs[row, tail[step + 1]]
                    divergences[way.name][passage, step] = divergence[row]
                    agrees[way.name][passage, step] = is_same[row]
            for fork in forks:
                kept[fork.way.name].merge(fork.kept)
    most = max(kept.values(), key=lambda one: one.groups_visible)
    for way in ways:
        if way.attention.is_exact:
            kept[way.name] = most.of_everything()
    base = Perplexity(losses[ways[0].name].reshape(-1))
    return [
        LateResult(
            way.name,
            result := Perplexity(losses[way.name].reshape(-1)),
            None if way.is_exact else difference(result, base),
            divergences[way.name].reshape(-1),
            agrees[way.name].reshape(-1),
            kept[way.name],
            kept[way.name].bytes_read(session.layout, way.looks),
        )
        for way in ways
    ]


def _compare(exact: F32, logs: F32) -> tuple[F64, npt.NDArray[np.bool_]]:
    """Divergence of each row of `logs` from `exact`, and whether the likeliest is the same."""
    divergence: F64 = ((exact - logs) * np.exp(exact)).sum(axis=1, dtype=np.float64)
    return np.maximum(divergence, 0.0), logs.argmax(axis=1) == exact.argmax()
