"""The pool's protocols under a modelled network, beside a metadata server and node-only allocation.

Clients are threads in virtual time: a round trip takes 5 us, and a request to a server is served by
its one core, after those that came before. So these are ratios of protocols, not of machines.
"""

from machine import ROOT
from pool_load import Report, output
from report import Row

PROGRAM = ROOT / "target" / "release" / "examples" / "pool_model"
ROUND_TRIP_NS = 5_000
CLIENTS = (1, 16, 128)
"""FUSEE's figures are of 128 clients on two memory nodes."""
SERVICES_NS = (None, 500, 2_000)
"""A request's time on the server's core: as measured on this machine with no network at all, and
assumed for servers that do have one."""
SHAPE = {"replicas": 2, "value-bytes": 1024, "keys": 10_000, "virtual-ms": 2}
MODES = {"metadata": "metadata server", "node-allocation": "node-only allocation"}
PAPER = {("metadata", 128): 4.9, ("node-allocation", 128): 1 / (1 - 0.909)}
"""FUSEE over Clover; FUSEE over itself with allocation by the nodes alone; of YCSB-A."""
PAPER_OVER_TWO_PHASE = (1.2, 2.0)
TRANSACTIONS = ((2, 1), (3, 1), (3, 2))
"""Objects, copies."""


def missing() -> str | None:
    """What to do if the model has not been built."""
    if PROGRAM.exists():
        return None
    return "cargo build --release -p artesian-pool --example pool_model"


def model_rows() -> list[Row]:
    """This pool over the other ways to find and place objects; over two-phase commit."""
    measured = float(_call("rpc")["service_ns"])
    rows = []
    for clients in CLIENTS:
        for workload in ("a", "c"):
            ours = _rate("clients", workload, clients, 0)
            for mode in MODES:
                if mode == "node-allocation" and workload == "c":
                    continue
                for service in SERVICES_NS:
                    theirs = _rate(mode, workload, clients, service or measured)
                    paper = PAPER.get((mode, clients)) if workload == "a" else None
                    rows.append(_row(mode, workload, clients, service or measured, ours, theirs))
                    if paper is not None:
                        rows[-1].values["paper"] = paper
    return rows


def transaction_rows() -> list[Row]:
    """Round trips and verbs of a transaction; two-phase commit writes with the same verbs."""
    rows = []
    for objects, replicas in TRANSACTIONS:
        report = _call("transactions", objects=objects, replicas=replicas)
        for metric in ("round_trips", "verbs", "bytes"):
            ours, theirs = (float(report[name][metric]) for name in ("repairable", "two_phase"))
            rows.append(
                Row(
                    subject="transactions",
                    metric=f"{objects} objects, r = {replicas}: {metric.replace('_', ' ')}",
                    value=ours,
                    unit="",
                    baseline="two-phase",
                    baseline_value=theirs,
                    better="less",
                    target=1 / PAPER_OVER_TWO_PHASE[0] if metric == "round_trips" else None,
                    values={"repairable": ours, "two-phase": theirs},
                )
            )
    return rows


def _row(
    mode: str, workload: str, clients: int, service_ns: float, ours: float, theirs: float
) -> Row:
    count = "1 client" if clients == 1 else f"{clients} clients"
    return Row(
        subject=f"modelled, beside {MODES[mode]}",
        metric=f"YCSB-{workload.upper()}, {count}, {MODES[mode]} with {service_ns / 1000:.2g} us",
        value=ours,
        unit="1/s",
        baseline="other",
        baseline_value=theirs,
        values={"Artesian": ours, "other": theirs, "times": ours / theirs},
    )


def _rate(mode: str, workload: str, clients: int, service_ns: float) -> float:
    report = _call(
        "run",
        mode=mode,
        workload=workload,
        clients=clients,
        **{"service-ns": round(service_ns), "round-trip-ns": ROUND_TRIP_NS, **SHAPE},
    )
    return float(report["ops_per_s"])


def _call(command: str, **options: object) -> Report:
    [report] = output(PROGRAM, command, **options)
    return report
