"""Which rows of a step attend sparsely."""

from artesian.attention.policies import FallbackName, create_fallback
from artesian.engine.scheduler import Schedule
from artesian.engine.sequence import Sequence


class SparseSteps:
    """Chooses, step by step, how each sequence attends.

    Only generated tokens, and guesses at them, attend sparsely, one by one: prompts, also those
    that are computed again after a preemption, attend to everything, so that their KV is the one
    that anybody computes.
    """

    def __init__(self, fallback: FallbackName) -> None:
        self._fallback = fallback

    def plan(self, schedule: Schedule) -> None:
        """Sets how the sequences of a step attend in it."""
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


def _is_generated(sequence: Sequence) -> bool:
    """Whether the next token to compute is no part of the prompt."""
    return sequence.num_computed >= sequence.num_shown_prompt_tokens
