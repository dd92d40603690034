"""From what was measured to the rows of the tables."""

import statistics
from typing import Any

import pool_peers as peers
from pool_cases import BATCH, BATCHED, CLIENTS, SIZES, Measured
from report import Row, best

PER_CLIENT_TARGET = 100
PYTHON_TARGET = 40
TOGETHER_TARGET = 3
MEMCPY_TARGET = 0.6
MIXES = {"a": (0.5, 0.5), "b": (0.95, 0.05), "c": (1, 0), "d": (0.95, 0.05), "f": (1, 0.5)}
"""Reads and writes of one operation of each workload, as far as redis and memcached know them."""
PAPER_TRIPS = {"read": 2, "update": 4, "insert": 4}
"""FUSEE's with copies: SEARCH at most 2, UPDATE and INSERT 4."""


def small_rows(measured: Measured, workloads: tuple[str, ...]) -> dict[str, list[Row]]:
    """Rows of one client and of all together."""
    rows: dict[str, list[Row]] = {"one": [], "all": []}
    for workload in workloads:
        ours = _runs(workload)
        values = _known(measured, ours)
        one = values["1 client"]
        others = _known_mixes(measured, {"redis": "redis", "memcached": "memcached"}, workload)
        rows["one"].append(
            Row(
                subject="100 B, one client",
                metric=f"YCSB-{workload.upper()}",
                value=one,
                unit="",
                baseline="redis" if "redis" in others else None,
                baseline_value=others.get("redis"),
                target=PER_CLIENT_TARGET,
                values={"Artesian": one, **others},
                spread=measured.spread(Artesian=f"{workload} x1"),
            )
        )
        pipelines = {f"x{n}": f"redis -P 16 x{n}" for n in peers.PIPELINE_CLIENTS}
        pipelined = _known_mixes(measured, pipelines, workload)
        highest = max(pipelined.values(), default=None)
        redis = {} if highest is None else {"redis -P 16": highest}
        most = best(values, "more")
        rows["all"].append(
            Row(
                subject="100 B, all clients",
                metric=f"YCSB-{workload.upper()}",
                value=values[most] if most else None,
                unit="",
                baseline="redis -P 16" if redis else None,
                baseline_value=highest,
                target=TOGETHER_TARGET,
                values={**values, **redis},
                spread=measured.spread(**ours),
            )
        )
    return rows


def batch_rows(measured: Measured) -> list[Row]:
    """One client that asks for many keys in one call, beside one pipeline of redis."""
    rows = []
    for workload in BATCHED:
        values = _known(measured, {"Artesian": f"{workload} batch", "single": f"{workload} x1"})
        piped = _known_mixes(measured, {"redis -P 16": "redis -P 16 x1"}, workload)
        rows.append(
            Row(
                subject="100 B, one client",
                metric=f"YCSB-{workload.upper()}, {BATCH} keys a call",
                value=values.get("Artesian"),
                unit="",
                baseline="redis -P 16" if piped else None,
                baseline_value=piped.get("redis -P 16"),
                values={**values, **piped},
                spread=measured.spread(Artesian=f"{workload} batch"),
            )
        )
    return rows


def ordered_rows(measured: Measured) -> list[Row]:
    """YCSB-E: 95% scans of 1 to 100 values, 5% inserts."""
    values = _known(measured, _runs("e"))
    names = {"get": "redis sorted scan", "set": "redis sorted insert"}
    rates = _known(measured, names)
    redis = {"redis": peers.mix(rates, 0.95, 0.05)} if len(rates) == 2 else {}
    rows = [
        Row(
            subject="ordered index, 100 B",
            metric="YCSB-E, operations",
            value=values.get("1 client"),
            unit="1/s",
            baseline="redis" if redis else None,
            baseline_value=redis.get("redis"),
            values={**values, **redis},
            spread=measured.spread(**{"1 client": "e x1"}),
        )
    ]
    for kind in ("scan", "insert"):
        for metric, key, scale in (
            ("p50, us", "p50_ns", 1e-3),
            ("p99, us", "p99_ns", 1e-3),
            ("round trips, mean", "round_trips", 1),
        ):
            found = {
                name: _costs(measured, run, kind, key, scale) for name, run in _runs("e").items()
            }
            known = {name: value for name, value in found.items() if value is not None}
            rows.append(
                Row(
                    subject="ordered index, 100 B",
                    metric=f"{kind}, {metric}",
                    value=known.get("1 client"),
                    unit="",
                    better="less",
                    values=known,
                )
            )
    return rows


def latency_rows(measured: Measured) -> list[Row]:
    """Median and 99th percentile, in microseconds."""
    rows = []
    for workload, kind, peer in (("c", "read", "get"), ("a", "update", "set")):
        for quantile in ("p50", "p99"):
            ours = _costs(measured, f"{workload} x1", kind, f"{quantile}_ns", 1e-3)
            theirs = measured.median(f"redis {peer} {quantile}")
            values = {"Artesian": ours, **({} if theirs is None else {"redis": theirs})}
            rows.append(
                Row(
                    subject="100 B, one client",
                    metric=f"{kind}, {quantile}",
                    value=ours,
                    unit="us",
                    baseline=None if theirs is None else "redis",
                    baseline_value=theirs,
                    better="less",
                    values=values,
                )
            )
    return rows


def large_rows(measured: Measured) -> list[Row]:
    """Bandwidth beside redis; of the largest values also the part of memcpy's."""
    rows = []
    for size in SIZES:
        for kind in ("read", "update"):
            names = {
                "Artesian": f"{size.name} {kind}",
                "redis": f"{size.name} redis {kind}",
                "memcpy": f"{size.name} memcpy {kind}",
            }
            values = _known(measured, names)
            ours, limit = values.get("Artesian"), values.get("memcpy")
            if ours is None:
                continue
            last = size is SIZES[-1]
            rows.append(
                Row(
                    subject=size.name,
                    metric=f"{size.name} {kind}",
                    value=ours,
                    unit="GB/s",
                    baseline="memcpy" if last else "redis" if "redis" in values else None,
                    baseline_value=limit if last else values.get("redis"),
                    target=MEMCPY_TARGET if last else None,
                    values=values,
                    spread=measured.spread(**names),
                    share=ours / limit if limit else None,
                    limit="memcpy",
                )
            )
    return rows


def python_rows(measured: Measured) -> list[Row]:
    """One Python process."""
    rows = []
    for name in ("get", "set"):
        names = {
            "Artesian": f"python artesian {name}",
            "redis-py": f"python redis {name}",
            "pymemcache": f"python memcached {name}",
            "redis-benchmark": f"redis {name}",
        }
        values = _known(measured, names)
        rows += [
            Row(
                subject="Python, 100 B",
                metric=f"{name}, against {baseline}",
                value=values.get("Artesian"),
                unit="",
                baseline=baseline,
                baseline_value=values.get(baseline),
                target=PYTHON_TARGET,
                values=values,
                spread=measured.spread(**names),
            )
            for baseline in ("redis-py", "redis-benchmark")
            if baseline in values
        ]
    return rows


def cost_rows(measured: Measured) -> list[Row]:
    """Round trips without what is amortised, and verbs with it."""
    rows = []
    for workload, kind in (("c", "read"), ("a", "update"), ("d", "insert")):
        names = {"r = 1": f"{workload} x1", "r = 2": f"{workload} r2"}
        for metric, key in (
            ("round trips, usual", "usual_round_trips"),
            ("round trips, mean", "round_trips"),
            ("reads", "reads"),
            ("writes", "writes"),
            ("cas", "cas"),
            ("faa", "faa"),
        ):
            found = {name: _costs(measured, run, kind, key) for name, run in names.items()}
            values = {name: value for name, value in found.items() if value is not None}
            usual = key == "usual_round_trips"
            paper = {"paper": float(PAPER_TRIPS[kind])} if usual else {}
            rows.append(
                Row(
                    subject="costs",
                    metric=f"{kind}: {metric}",
                    value=values.get("r = 2"),
                    unit="",
                    baseline="paper" if usual else None,
                    baseline_value=paper.get("paper"),
                    better="less",
                    target=1 if usual else None,
                    values={**values, **paper},
                )
            )
    return rows


def _runs(workload: str) -> dict[str, str]:
    """The figures of a workload, by how many clients there were."""
    return {f"{n} client{'s'[: n - 1]}": f"{workload} x{n}" for n in CLIENTS}


def _known(measured: Measured, names: dict[str, str]) -> dict[str, float]:
    medians = {name: measured.median(figure) for name, figure in names.items()}
    return {name: value for name, value in medians.items() if value is not None}


def _known_mixes(measured: Measured, names: dict[str, str], workload: str) -> dict[str, float]:
    """What each would do of a workload, from its rates of reads and writes."""
    found = {}
    for name, figure in names.items():
        rates = _known(measured, {"get": f"{figure} get", "set": f"{figure} set"})
        if len(rates) == 2:
            found[name] = peers.mix(rates, *MIXES[workload])
    return found


def _costs(measured: Measured, run: str, kind: str, key: str, scale: float = 1) -> Any:
    reports = measured.reports.get(run, [])
    found = [report["kinds"][kind][key] for report in reports if kind in report["kinds"]]
    return statistics.median(found) * scale if found else None
