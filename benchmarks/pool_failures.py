"""What failures cost: a client that is killed, a memory node that is lost."""

import statistics
import threading

import pool_load
from pool_cases import Plan
from pool_load import Report, Shape
from report import Row

UPDATES = 2_000
"""Of one call; more than 1,000 of them are in flight when the client dies."""
RECOVERY_TARGET_MS = 20.0
FUSEE_RECOVERY_MS = 177.0 - 163.1
"""FUSEE's after 1,000 updates, without the set-up of connections."""
OUTAGE_TARGET_MS = 50.0
SMALL = Shape(keys=10_000, value_bytes=100)
REPLICATED = Shape(keys=10_000, value_bytes=100, replicas=2, nodes=3)
WRITERS = 2
NODES_TO_LOSE = (0, 1)


def failure_rows(plan: Plan) -> list[Row]:
    """Medians over the rounds."""
    return [*_recovery_rows(plan), *_outage_rows(plan)]


def _recovery_rows(plan: Plan) -> list[Row]:
    rows = []
    for shape in (SMALL, REPLICATED):
        reports = []
        for _ in range(plan.rounds):
            with pool_load.filled_pool(shape) as pool:
                sizes = {"value-bytes": shape.value_bytes}
                reports.append(pool_load.call("recovery", pool, updates=UPDATES, **sizes))
        title = f"recovery of a killed client, r = {shape.replicas}"
        total = [report["recover_ns"] + report["declare_ns"] for report in reports]
        used = statistics.median(report["used"] for report in reports)
        rows.append(
            Row(
                subject=title,
                metric=f"{title}, {used:.0f} updates in flight",
                value=statistics.median(total) / 1e6,
                unit="ms",
                baseline="target",
                baseline_value=RECOVERY_TARGET_MS,
                better="less",
                target=1,
                values={
                    "Artesian": statistics.median(total) / 1e6,
                    "target": RECOVERY_TARGET_MS,
                    "FUSEE": FUSEE_RECOVERY_MS,
                },
                spread={"Artesian": (min(total) / 1e6, max(total) / 1e6)},
            )
        )
        rows += [_part(title, name, reports) for name in ("declare", "read", "settle", "free")]
    return rows


def _part(title: str, name: str, reports: list[Report]) -> Row:
    value = statistics.median(report[f"{name}_ns"] for report in reports) / 1e6
    metric = f"  of these: {name}"
    return Row(subject=title, metric=metric, value=value, unit="ms", values={"Artesian": value})


def _outage_rows(plan: Plan) -> list[Row]:
    rows = []
    for node in NODES_TO_LOSE:
        gaps = [_outage(plan, node) for _ in range(plan.rounds)]
        value = statistics.median(gaps)
        rows.append(
            Row(
                subject="lost node",
                metric=f"longest pause of {WRITERS} writers when node {node} of 3 is lost",
                value=value,
                unit="ms",
                baseline="target",
                baseline_value=OUTAGE_TARGET_MS,
                better="less",
                target=1,
                values={"Artesian": value, "target": OUTAGE_TARGET_MS},
                spread={"Artesian": (min(gaps), max(gaps))},
            )
        )
    return rows


def _outage(plan: Plan, node: int) -> float:
    """Milliseconds of the longest operation while a node is lost."""
    with pool_load.filled_pool(REPLICATED) as pool:
        after = pool_load.WARM_UP_SECONDS + plan.seconds / 2
        killer = threading.Timer(after, lambda: pool_load.call("kill", pool, node=node))
        killer.start()
        reports = pool_load.run(pool, REPLICATED, "a", WRITERS, plan.seconds, every=1)
        killer.join()
    kinds = [kind for report in reports for kind in report["kinds"].values()]
    return max(float(kind["max_ns"]) for kind in kinds) / 1e6
