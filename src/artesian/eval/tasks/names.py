"""Names that needles are asked for by."""

import random

_ADJECTIVES = (
    "amber ancient bitter bright broken calm clever cold curious distant empty faithful gentle "
    "golden happy hidden hollow humble lonely lucky narrow noble pale patient proud quiet rapid "
    "rusty secret silent silver simple sleepy solid stormy sweet tall tender tiny yellow"
)
_NOUNS = (
    "anchor apple arrow basket bridge candle castle circle copper desert dragon engine falcon "
    "feather forest garden hammer harbor island jacket kettle ladder lantern meadow mirror "
    "mountain needle orchard pencil planet rabbit ribbon river saddle shadow temple thunder "
    "valley violin window"
)

ADJECTIVES = tuple(_ADJECTIVES.split())
NOUNS = tuple(_NOUNS.split())


def names(rng: random.Random, count: int) -> list[str]:
    """So many different names of two words."""
    picked = rng.sample(range(len(ADJECTIVES) * len(NOUNS)), count)
    return [f"{ADJECTIVES[n // len(NOUNS)]} {NOUNS[n % len(NOUNS)]}" for n in picked]
