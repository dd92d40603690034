"""Whether a scan comes again."""

_FEWEST = 2
_SHARE = 0.25


def is_reread(num_watched: int, num_reused: int, was_reread: bool) -> bool:
    """Whether what a reader has passed will be wanted again: then it must not go at once.

    Args:
        num_watched: children of which every use is noticed; num_reused: those wanted again so far.
        was_reread: whether that was so in an earlier run.
    """
    return was_reread or (num_reused >= _FEWEST and num_reused >= _SHARE * num_watched)
