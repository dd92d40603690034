"""When tokens attend to everything although they need not."""

from typing import Literal

from artesian.attention.policies.base import DenseFallback
from artesian.attention.policies.by_layer import ByLayer
from artesian.attention.policies.by_length import ByLength
from artesian.attention.policies.by_saving import BySaving
from artesian.attention.policies.chain import Chain

FallbackName = Literal["length", "adaptive"]


def create_fallback(name: FallbackName) -> DenseFallback:
    """The policy of a sequence; `adaptive` learns from what its tokens have read."""
    if name == "length":
        return ByLength()
    return Chain([ByLength(), BySaving(), ByLayer()])


__all__ = [
    "ByLayer",
    "ByLength",
    "BySaving",
    "Chain",
    "DenseFallback",
    "FallbackName",
    "create_fallback",
]
