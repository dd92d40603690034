"""Calls from recorded traces: Azure's, Mooncake's, tables of lengths, and our own.

Our own are lines of JSON: `{"arrival_s": 0.5, "num_prompt_tokens": 100, "num_output_tokens": 20}`,
and `num_cached_tokens` and `key` if there are any.
"""

import csv
import json
import lzma
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any

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
        lines = [line for _, line in zip(range(num_calls), [first, *file], strict=False)]
        rows = [json.loads(line) for line in lines if line.strip()]
        return _mooncake(rows) if "hash_ids" in rows[0] else [_own(row) for row in rows]
    columns = [name.strip() for name in first.split(",")]
    for names, make in _TABLES.items():
        if set(names) <= set(columns):
            table = csv.DictReader(file, columns)
            return [make(row) for _, row in zip(range(num_calls), table, strict=False)]
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


def _own(row: dict[str, Any]) -> Call:
    num_cached, key = int(row.get("num_cached_tokens", 0)), str(row.get("key", ""))
    call = _call(float(row["arrival_s"]), row["num_prompt_tokens"], row["num_output_tokens"])
    return replace(call, num_cached_tokens=max(0, num_cached), key=key)


def _mooncake(rows: Iterable[dict[str, Any]]) -> list[Call]:
    """Prefixes that came before count as cached: as if the pool kept everything."""
    seen: set[int] = set()
    calls = []
    for row in rows:
        names = [int(name) for name in row["hash_ids"]]
        num_seen = next((i for i, name in enumerate(names) if name not in seen), len(names))
        seen.update(names)
        call = _call(float(row["timestamp"]) / 1e3, row["input_length"], row["output_length"])
        num_cached = min(num_seen * MOONCAKE_BLOCK_TOKENS, call.num_prompt_tokens - 1)
        calls.append(replace(call, num_cached_tokens=num_cached))
    return calls
