"""Sizes as people write them: `32k` tokens, `4GiB` of memory."""

import re

_PATTERN = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<suffix>[kmgtKMGT]?(?:i?[bB])?)")


def parse_size(value: object) -> object:
    """Turns `"32k"` or `"4GiB"` into a number; anything but text passes through unchanged.

    `k m g t` are powers of 1000 and `K M G T` powers of 1024, as in vLLM; with a `B` behind
    them (`4GB`, `4GiB`) the `i` alone decides. Raises `ValueError` when it cannot be read or is
    not a whole number.
    """
    if not isinstance(value, str):
        return value
    match = _PATTERN.fullmatch(value.strip().replace("_", ""))
    if match is None:
        raise ValueError("not a size: write a whole number, or one such as 32k or 4GiB")
    suffix = match["suffix"]
    power = "kmgt".find(suffix[:1].lower()) + 1 if suffix and suffix not in "bB" else 0
    is_binary = "i" in suffix if suffix[1:] else suffix.isupper()
    size = float(match["number"]) * (1024 if is_binary else 1000) ** power
    if not size.is_integer():
        raise ValueError("not a whole number")
    return int(size)
