"""What a check finds."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "error"]
"""An error stops `artesian serve`; a warning makes it slower or surprising."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `hint` says what to do unless all is well."""

    name: str
    status: Status
    detail: str
    hint: str = ""


def format_bytes(size: int) -> str:
    """A size for people: `1.5 GiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
