"""Whether a pool is what it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from artesian.pool.native import check_pool

if TYPE_CHECKING:
    from artesian.pool.pool import Pool


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    severity: str
    """`note` (nothing is wrong), `warning` (no data is at risk), `error`."""
    what: str
    """The kind, such as `few-copies`: programs may go by it."""
    place: str
    detail: str
    repaired: str | None
    """What was done about it, if anything."""

    def __str__(self) -> str:
        done = f" [{self.repaired}]" if self.repaired else ""
        return f"{self.severity}: {self.what} at {self.place}: {self.detail}{done}"


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of a check. Bytes are those of one copy."""

    findings: tuple[Finding, ...]
    """The worst first."""
    num_omitted: int
    """Findings beyond the first ten thousand."""
    is_clean: bool
    """Nothing worse than notes is left."""
    is_exact: bool
    """No other client was there all the while: every number is exact."""
    num_nodes: int
    num_clients: int
    num_regions: int
    num_keys: int
    key_bytes: int
    """Bytes of the keys' objects, the pieces of large values included."""
    in_use_bytes: int
    free_bytes: int
    held_bytes: int
    """Neither, in blocks of clients: they keep lists of their own."""
    pending_bytes: int
    """Neither, because it was given up just now."""
    wrecked_bytes: int
    """Neither, in blocks of dead clients that nobody has looked through yet."""
    leaked_bytes: int
    """Neither, though nobody is left who could know of them."""


def check(pool: Pool, *, repair: bool) -> CheckReport:
    """Checks a pool by way of one of its clients."""
    report: dict[str, Any] = check_pool(pool.handle, repair)
    findings = tuple(Finding(**finding) for finding in report.pop("findings"))
    return CheckReport(findings=findings, **report)
