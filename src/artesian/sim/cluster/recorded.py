"""Calls from recorded traces: Azure's, Mooncake's, and tables of lengths."""

import csv
import json
import lzma
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO

import numpy as np

from artesian.sim.cluster.calls import Call
from artesian.sim.traces import MOONCAKE_BLOCK_TOKENS, TraceError

Row = dict[str, str]


def read_calls(path: Path, num_calls: int, calls_per_s: float | None, seed: int = 0) -> list[Call]:
    """The first calls of a trace, whose kind its first line tells; `.xz` is unpacked.

    Args:
        calls_per_s: times are stretched to that rate on average; tables of lengths without times
            get Poisson arrivals. None: as recorded.

    Raises:
        OSError: the file cannot be read.
        TraceError: it is no trace of a known kind, has no calls, or needs a rate.
    """
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as file:
        try:
            calls = _parse(file, path, num_calls)
        except (KeyError, TypeError, ValueError, lzma.LZMAError) as error:
            if isinstance(error, TraceError):
                raise
            raise TraceError(f"{path} has a row that is no request: {error!r}") from None
    if not calls:
        raise TraceError(f"{path} has no requests")
    calls.sort(key=lambda call: call.arrival_s)
    start_s, span_s = calls[0].arrival_s, calls[-1].arrival_s - calls[0].arrival_s
    if span_s == 0 and len(calls) > 1:
        if calls_per_s is None:
            raise TraceError(f"{path} has no times of arrival: give a rate")
        random = np.random.default_rng(seed)
        gaps = np.cumsum(random.exponential(1 / calls_per_s, len(calls))).tolist()
        return [replace(c, arrival_s=s) for c, s in zip(calls, gaps, strict=True)]
    stretch = 1.0 if calls_per_s is None else (len(calls) - 1) / calls_per_s / max(span_s, 1e-9)
    return [replace(call, arrival_s=(call.arrival_s - start_s) * stretch) for call in calls]


def _parse(file: IO[str], path: Path, num_calls: int) -> list[Call]:
    first = file.readline()
    if first.startswith("{"):
        return list(_mooncake([first], file, num_calls))
    columns = [name.strip() for name in first.split(",")]
    for names, make in _TABLES.items():
        if set(names) <= set(columns):
            rows = csv.DictReader(file, columns)
            return [make(row) for _, row in zip(range(num_calls), rows, strict=False)]
    raise TraceError(f"{path} is no known trace: its first line is {first[:80].strip()!r}")


def _azure(row: Row) -> Call:
    text = row["TIMESTAMP"][:26]  # it has a digit more than a microsecond has
    time_s = datetime.fromisoformat(text).timestamp()
    return _call(time_s, row["ContextTokens"], row["GeneratedTokens"])


def _sharegpt(row: Row) -> Call:
    return _call(float(row["arrival_time_ns"]) / 1e9, row["input_toks"], row["output_toks"])


def _lengths(row: Row) -> Call:
    return _call(0.0, row["num_prefill_tokens"], row["num_decode_tokens"])


_TABLES: dict[tuple[str, ...], Callable[[Row], Call]] = {
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens"): _azure,
    ("input_toks", "output_toks", "arrival_time_ns"): _sharegpt,
    ("num_prefill_tokens", "num_decode_tokens"): _lengths,
}


def _call(time_s: float, num_prompt: str, num_output: str) -> Call:
    return Call(time_s, max(1, int(float(num_prompt))), max(1, int(float(num_output))))


def _mooncake(first: list[str], file: Iterable[str], num_calls: int) -> Iterator[Call]:
    """Prefixes that came before count as cached: as if the pool kept everything."""
    seen: set[int] = set()
    for _, line in zip(range(num_calls), [*first, *file], strict=False):
        row = json.loads(line)
        names = [int(name) for name in row["hash_ids"]]
        num_seen = next((i for i, name in enumerate(names) if name not in seen), len(names))
        seen.update(names)
        num_prompt = max(1, int(row["input_length"]))
        yield Call(
            float(row["timestamp"]) / 1e3,
            num_prompt,
            max(1, int(row["output_length"])),
            min(num_seen * MOONCAKE_BLOCK_TOKENS, num_prompt - 1),
        )
