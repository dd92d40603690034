"""Sequences that start while a tier is still sending their first blocks."""

from dataclasses import dataclass

from artesian.context import ContextCache
from artesian.engine.sequence import Sequence
from artesian.kvcache.prefix_cache import PrefixCache


@dataclass(frozen=True, slots=True)
class EarlyStart:
    """What a sequence would start with.

    Attributes:
        hits: cached blocks; coming: blocks behind them that are on their way.
        is_exclusive: it may have to wait for them: nothing else should be in the same step.
        timeout_s: how long the step waits for them.
    """

    hits: list[int]
    coming: list[int]
    is_exclusive: bool
    timeout_s: float


def find_early_start(
    context: ContextCache,
    cache: PrefixCache,
    sequence: Sequence,
    block_size: int,
    budget: int,
    is_alone: bool,
) -> EarlyStart | None:
    """How `sequence`, some of whose blocks are on their way, can start now; None if it should wait.

    One sequence starts early over each load: others that need the same blocks would compute the
    same tokens. One that looks through a window waits: where it begins depends on what comes.

    Args:
        budget: tokens that it may compute in this step.
        is_alone: there is nothing else to do.
    """
    onboarding = sequence.onboarding
    if onboarding is None or onboarding.is_taken or sequence.window is not None:
        return None
    usable = sequence.hashes[: (sequence.num_tokens - 1) // block_size]
    hits = cache.lookup(usable)
    coming = onboarding.blocks_of(usable[len(hits) :])
    if not coming:
        return None
    first = (len(hits) + len(coming)) * block_size
    num_new = min(sequence.num_tokens - first, budget)
    for is_exclusive in (False, True):
        if is_exclusive and not is_alone:
            break
        if context.may_start(onboarding, first, num_new, is_exclusive):
            return EarlyStart(hits, coming, is_exclusive, context.patience_s(onboarding))
    return None
