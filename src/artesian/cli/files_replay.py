"""`artesian files replay`: what a cache would do for a recorded job."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveFloat
from rich.console import Console
from rich.table import Table

from artesian.cli.errors import print_error
from artesian.cli.options import AsJson
from artesian.files.advisor import PatternAdvisor
from artesian.files.base import Advisor
from artesian.files.errors import FilesUsageError
from artesian.files.lru import LruAdvisor
from artesian.machine.sizes import parse_size
from artesian.sim.files import (
    AdvisedCache,
    FilesOutcome,
    Simulation,
    TraceFormatError,
    furthest_next_use,
    read_trace,
)

TracePath = Annotated[
    Path,
    Parameter(
        help="CSV, also .xz: file, offset, length (or ret, count); worker, ts_us, dur_us if known."
    ),
]
Capacity = Annotated[str, Parameter(help="Bytes of the cache, such as 10GiB, or a part, as 30%.")]
Latency = Annotated[PositiveFloat, Parameter(help="Of the origin, to the first byte.")]
Bandwidth = Annotated[str, Parameter(help="Of the origin, bytes a second, such as 100MB.")]


def replay(
    trace: TracePath,
    /,
    *,
    capacity: Capacity = "30%",
    latency_ms: Latency = 30.0,
    bandwidth: Bandwidth = "100MB",
    as_json: AsJson = False,
) -> int:
    """Replay a recorded job on a simulated origin, with the cache's policies and with LRU."""
    try:
        job = read_trace(trace)
        total = sum(job.sizes().values())
        capacity_bytes = _capacity(capacity, total)
        bytes_per_s = _bytes("bandwidth", bandwidth)
    except (TraceFormatError, FilesUsageError) as error:
        print_error(str(error))
        return 2
    advisor = PatternAdvisor(capacity_bytes)
    advisors: dict[str, Advisor] = {"patterns": advisor, "lru": LruAdvisor(capacity_bytes)}
    outcomes = {}
    for name, chosen in advisors.items():
        cache = AdvisedCache(chosen, capacity_bytes)
        simulation = Simulation(
            [job], cache, latency_s=latency_ms / 1e3, bytes_per_s=float(bytes_per_s)
        )
        outcomes[name] = simulation.run()
    bound = furthest_next_use(outcomes["lru"].order, capacity_bytes)
    units = [(unit.path, unit.verdict.value, unit.policy) for unit in advisor.units(0.0)]
    if as_json:
        found = {name: _numbers(outcome) for name, outcome in outcomes.items()}
        content = {"data_bytes": total, "capacity_bytes": capacity_bytes, "belady": bound}
        print(json.dumps({**content, **found, "units": units}))
        return 0
    console = Console()
    title = f"{job.name}: {total / 1e9:.2f} GB of data, a cache of {capacity_bytes / 1e9:.2f} GB"
    table = Table("", *outcomes, title=title, title_justify="left")
    for label in _numbers(outcomes["lru"]):
        table.add_row(label, *(f"{_numbers(o)[label]:,.3f}" for o in outcomes.values()))
    console.print(table)
    console.print(f"Belady, who fetches nothing ahead, hits {bound:.3f} of the blocks.")
    for path, verdict, policy in units:
        if path:
            console.print(f"{path}: {verdict}: {policy}")
    return 0


def _numbers(outcome: FilesOutcome) -> dict[str, float]:
    return {
        "hits, of blocks": outcome.hit_ratio,
        "hits, of bytes": outcome.byte_hit_ratio,
        "time, s": outcome.mean_took_s,
        "from the origin, GB": outcome.origin_bytes / 1e9,
        "requests": float(outcome.origin_requests),
        "of what came ahead, wanted": outcome.num_ahead_used / max(1, outcome.num_ahead),
    }


def _capacity(text: str, total: int) -> int:
    if text.endswith("%"):
        try:
            part = float(text[:-1]) / 100
        except ValueError:
            part = -1.0
        if not 0 < part <= 100:
            raise FilesUsageError(f"capacity {text!r}: expected bytes, or a part such as 30%")
        return max(1, int(part * total))
    return _bytes("capacity", text)


def _bytes(name: str, text: str) -> int:
    try:
        found = parse_size(text)
    except ValueError as error:
        raise FilesUsageError(f"{name} {text!r}: {error}") from None
    if not isinstance(found, int) or found <= 0:
        raise FilesUsageError(f"{name} {text!r}: expected bytes, such as 10GiB")
    return found
