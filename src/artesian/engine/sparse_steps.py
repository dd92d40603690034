"""Which rows of a step attend sparsely, and what comes of it."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from artesian.attention import SparseReport
from artesian.attention.drift import DriftWatch
from artesian.attention.policies import FallbackName, create_fallback
from artesian.engine.scheduler import Schedule
from artesian.engine.sequence import Sequence

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class SparseCounts:
    """Counters that only grow.

    Attributes:
        tokens: that did not attend to everything.
        groups_read, groups_visible: groups of 32 keys, for each of these, layer and query head.
        audits: tokens whose kept attention weight was measured; kept_weight, estimated_weight: sums
            over them of what was kept, and of what the stop rule took it to be.
    """

    tokens: int = 0
    groups_read: int = 0
    groups_visible: int = 0
    audits: int = 0
    kept_weight: float = 0.0
    estimated_weight: float = 0.0


class SparseSteps:
    """Chooses, step by step, how each sequence attends.

    Only generated tokens, and guesses at them, attend sparsely, one by one: prompts, also those
    that are computed again after a preemption, attend to everything, so that their KV is the one
    that anybody computes.

    Args:
        fallback: when sequences attend to everything although they need not.
        audit_steps: every so many steps in which any attends sparsely are audited; 0: none.
    """

    def __init__(self, fallback: FallbackName, audit_steps: int = 0) -> None:
        self.counts = SparseCounts()
        self._fallback = fallback
        self._audit_steps = audit_steps
        self._num_steps = 0
        self._drift = DriftWatch()

    def plan(self, schedule: Schedule) -> None:
        """Sets how the sequences of a step attend in it."""
        is_sparse = False
        for sequence, num_tokens in zip(schedule.sequences, schedule.num_tokens, strict=True):
            asked = sequence.state.approximation.attention
            drafts = sequence.drafts
            sequence.attends = None
            if drafts is not None and drafts.is_drafting:
                sequence.attends = drafts.attention_at(sequence.num_computed + drafts.num)
            elif asked is not None and num_tokens == 1 and _is_generated(sequence):
                if sequence.fallback is None:
                    sequence.fallback = create_fallback(self._fallback)
                sequence.attends = sequence.fallback.choose(asked, sequence.num_computed)
                is_sparse = is_sparse or sequence.attends is not None
        self._num_steps += is_sparse
        is_due = self._audit_steps > 0 and self._num_steps % self._audit_steps == 0
        schedule.audits = is_sparse and is_due

    def observe(self, schedule: Schedule, reports: Iterable[SparseReport]) -> None:
        """What the sequences of a step have read."""
        counts = self.counts
        for report in reports:
            sequence = schedule.sequences[report.sequence]
            read, visible = report.groups_read.sum(axis=1), report.groups_visible.sum(axis=1)
            counts.tokens += 1
            counts.groups_read += int(read.sum())
            counts.groups_visible += int(visible.sum())
            is_guess = sequence.drafts is not None and sequence.drafts.is_drafting
            if sequence.fallback is not None and not is_guess and (visible > 0).any():
                sequence.fallback.observe((read / np.maximum(visible, 1)).tolist())
            if schedule.audits and not is_guess:
                self._audit(sequence, report)

    def _audit(self, sequence: Sequence, report: SparseReport) -> None:
        kept = report.true_mass.mean(axis=1)
        if sequence.attends is None or not np.isfinite(kept).all():
            return
        counts = self.counts
        counts.audits += 1
        counts.kept_weight += float(kept.mean())
        estimated = report.estimated_mass
        if np.isfinite(estimated).all():
            counts.estimated_weight += float(estimated.mean())
        if sequence.attends.selector in ("progressive", "top-p"):
            warning = self._drift.observe(sequence.attends.epsilon, kept.tolist())
            if warning is not None:
                _logger.warning("%s", warning)


def _is_generated(sequence: Sequence) -> bool:
    """Whether the next token to compute is no part of the prompt."""
    return sequence.num_computed >= sequence.num_shown_prompt_tokens
