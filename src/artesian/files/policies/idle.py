"""When a unit is no longer in use."""

_LEAST_S = 60.0


def idle_limit_s(reuse_mean_s: float, reuse_deviation_s: float, epoch_s: float) -> float:
    """Seconds without use after which a unit's room goes first.

    Args:
        reuse_mean_s: until a child is wanted again; reuse_deviation_s: standard deviation of that.
        epoch_s: the latest such time.
    """
    return max(reuse_mean_s + 3 * reuse_deviation_s, 2 * epoch_s, _LEAST_S)
