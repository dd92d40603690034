"""Sampling options of the commands that generate."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

from artesian.engine.base import SamplingParams

GROUP = Group("Sampling", sort_key=5)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How the tokens of an answer are chosen."""

    max_tokens: Annotated[int | None, Parameter(group=GROUP)] = None
    """Longest answer in tokens; default: to the end of the context."""
    temperature: Annotated[float, Parameter(group=GROUP)] = 0.7
    """0 always takes the likeliest token."""
    top_p: Annotated[float, Parameter(group=GROUP)] = 0.95
    """Keep the likeliest tokens that together have this probability."""
    top_k: Annotated[int, Parameter(group=GROUP)] = 0
    """Keep this many of the likeliest tokens; 0 keeps all."""
    min_p: Annotated[float, Parameter(group=GROUP)] = 0.0
    """Keep tokens at least this likely, compared with the likeliest."""

    def to_params(self) -> SamplingParams:
        """The engine's form."""
        return SamplingParams(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
        )


DEFAULT_SAMPLING = SamplingOptions()
