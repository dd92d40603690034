"""How sure a part of a count is."""

import math

_NORMAL_95_PERCENT = 1.96


def wilson_95(num_right: int, num: int) -> tuple[float, float]:
    """Wilson's score interval: where the probability lies with 95% confidence.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927. It
    stays within 0 and 1, and says something for counts of 0 and of all.

    Raises:
        ValueError: the counts are none.
    """
    if not 0 <= num_right <= num or num == 0:
        raise ValueError(f"{num_right} of {num} is no part")
    z, part = _NORMAL_95_PERCENT, num_right / num
    scale = 1 + z * z / num
    middle = (part + z * z / (2 * num)) / scale
    half = z * math.sqrt(part * (1 - part) / num + z * z / (4 * num * num)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)
