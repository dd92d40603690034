"""The memory pool beside redis and memcached on one host, its costs, and what failures cost.

    make bench-pool                       everything
    make bench-pool ARGS='--rounds 5'     --help lists the flags

Everybody takes turns within every round, so that a disturbance of the machine meets all of them; a
figure is the median of the rounds. Peers are reached over Unix sockets and the pool by shared
memory: "same host" says no more than that. What is modelled says so.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pool_load
import pool_model
import pool_tree
import report
from machine import describe
from pool_cases import (
    SIZES,
    WORKLOADS,
    Measured,
    Plan,
    large_case,
    python_case,
    small_case,
    tree_case,
)
from pool_failures import failure_rows
from pool_rows import (
    batch_rows,
    cost_rows,
    large_rows,
    latency_rows,
    ordered_rows,
    python_rows,
    small_rows,
)
from report import Row

SECTIONS = ("small", "large", "python", "costs", "tree", "model", "failures")
console = report.make_console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of every figure (default 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of every load (default 1)")
    parser.add_argument("--sections", nargs="+", default=SECTIONS, choices=SECTIONS)
    options = parser.parse_args()
    if advice := pool_load.missing() or pool_tree.missing() or pool_model.missing():
        parser.error(f"the load generator is not built: {advice}")
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    if machine.load_average > 0.5:
        console.print("[yellow]other work runs on this machine: trust ratios, not values[/]")
    rows: list[Row] = []
    with TemporaryDirectory(prefix="artesian-bench-") as directory:
        plan = Plan(options.seconds, options.rounds, Path(directory))
        measured = measure(plan, options.sections)
        for title, some, columns in tables(measured, options.sections):
            show(title, some, columns)
            rows += some
        if "costs" in options.sections:
            some = cost_rows(measured)
            show("round trips and verbs of an operation", some, ["r = 1", "r = 2", "paper"])
            rows += some
        if "tree" in options.sections:
            some = pool_tree.tree_rows(plan)
            columns = ["Artesian", "without logs", "round trips", "rTX, at most"]
            show("ordered index, one client, operations per CPU second", some, columns)
            rows += some
        if "model" in options.sections:
            some = pool_model.model_rows()
            columns = ["Artesian", "other", "times", "paper"]
            show("modelled round trip of 5 us, r = 2, 1 KiB, operations/s", some, columns)
            rows += some
            some = pool_model.transaction_rows()
            show("transactions", some, ["repairable", "two-phase"])
            rows += some
        if "failures" in options.sections:
            some = failure_rows(plan)
            show("failures", some, ["Artesian", "target"])
            rows += some
    extra: dict[str, object] = {"rounds": options.rounds, "seconds": options.seconds}
    extra["notes"] = measured.notes
    console.print(f"written to {report.write('pool', rows, machine, extra)}")


def measure(plan: Plan, sections: list[str]) -> Measured:
    """All that is measured in rounds."""
    measured = Measured()
    with ExitStack() as stack:
        cases = []
        if {"small", "costs"} & {*sections}:
            cases.append(small_case(plan, stack, measured))
        if "large" in sections:
            cases += [large_case(plan, size, stack, measured) for size in SIZES]
        if "tree" in sections:
            cases.append(tree_case(plan, stack, measured))
        if "python" in sections:
            cases.append(python_case(plan, stack, measured))
        for number in range(plan.rounds):
            for case in cases:
                case()
            console.print(f"round {number + 1} of {plan.rounds}")
    for note in measured.notes:
        console.print(f"[yellow]{note}[/]")
    return measured


def tables(measured: Measured, sections: list[str]) -> list[tuple[str, list[Row], list[str]]]:
    """Titles, rows and columns."""
    found = []
    if "small" in sections:
        peers = ["redis", "memcached"]
        some = small_rows(measured, WORKLOADS)
        title = "100-byte values, one client, same host, operations/s"
        found.append((title, some["one"], ["Artesian", *peers]))
        title = "100-byte values, all clients, same host, operations/s"
        found.append((title, some["all"], ["1 client", "2 clients", "4 clients", "redis -P 16"]))
        title = "100-byte values, one client, many keys a call, operations/s"
        found.append((title, batch_rows(measured), ["Artesian", "single", "redis -P 16"]))
        found.append(("latency, one client", latency_rows(measured), ["Artesian", "redis"]))
    if "large" in sections:
        title = "larger values, one client, same host, GB/s"
        found.append((title, large_rows(measured), ["Artesian", "redis", "memcpy"]))
    if "tree" in sections:
        columns = ["1 client", "2 clients", "4 clients", "redis"]
        found.append(("ordered index, 100-byte values, same host", ordered_rows(measured), columns))
    if "python" in sections:
        columns = ["Artesian", "redis-py", "pymemcache", "redis-benchmark"]
        found.append(("from Python, 100-byte values, operations/s", python_rows(measured), columns))
    return found


def show(title: str, rows: list[Row], columns: list[str]) -> None:
    report.print_table(title, rows, columns, console)


if __name__ == "__main__":
    main()
