"""The pool's ordered index: what it does, and what the logs of its transactions cost."""

from machine import ROOT
from pool_cases import Plan
from pool_load import Report, output
from report import Row

PROGRAM = ROOT / "target" / "release" / "examples" / "tree_load"
DELAYS_NS = (0, 5_000)
"""Shared memory as it is, and with a modelled network."""
KEYS = 100_000
PAPER_OVERHEAD_PERCENT = 42.0
"""rTX's, at most, on RDMA hardware."""
OPERATIONS = (
    ("get", "get", None),
    ("scan of 100", "scan_100", None),
    ("update", "update", "update_without_logs"),
    ("insert and delete", "insert_and_delete", "insert_and_delete_without_logs"),
)


def missing() -> str | None:
    """What to do if the load generator has not been built."""
    if PROGRAM.exists():
        return None
    return "cargo build --release -p artesian-pool --example tree_load"


def tree_rows(plan: Plan) -> list[Row]:
    """One client, operations per second of CPU time, for every shape and delay."""
    reports = [report for delay_ns in DELAYS_NS for report in _run(plan, delay_ns)]
    return [row for report in reports for row in _rows(report)]


def _run(plan: Plan, delay_ns: int) -> list[Report]:
    seconds = max(0.1, plan.seconds / 4)
    sizes = {"keys": KEYS, "seconds": seconds, "rounds": plan.rounds, "delay-ns": delay_ns}
    return output(PROGRAM, **sizes)


def _rows(report: Report) -> list[Row]:
    delay = f", {report['delay_ns'] / 1000:g} us modelled" if report["delay_ns"] else ""
    shape = f"r = {report['replicas']}, {report['nodes']} nodes{delay}"
    rows = []
    for title, name, without in OPERATIONS:
        values = {"Artesian": report[name]["ops_per_cpu_s"]}
        spread = {"Artesian": (report[name]["lowest"], report[name]["highest"])}
        values["round trips"] = report[name]["round_trips"]
        if without is not None:
            values["without logs"] = report[without]["ops_per_cpu_s"]
        rows.append(
            Row(
                subject="ordered index",
                metric=f"{title}, {shape}",
                value=values["Artesian"],
                unit="1/s",
                values=values,
                spread=spread,
            )
        )
        if without is None:
            continue
        overhead = report[f"log_overhead_percent_{name}"]
        rows.append(
            Row(
                subject="ordered index",
                metric=f"  overhead of its logs, {shape}",
                value=overhead,
                unit="%",
                baseline="rTX, at most",
                baseline_value=PAPER_OVERHEAD_PERCENT,
                better="less",
                target=1,
                values={"Artesian": overhead, "rTX, at most": PAPER_OVERHEAD_PERCENT},
            )
        )
    return rows
