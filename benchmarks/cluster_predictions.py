"""What the simulator says of `make bench-cluster`, beside what that measured.

    artesian profile smollm2 --num-threads 1 --output core.json
    make bench-cluster
    make bench-cluster-predictions ARGS='--profile core.json'

Nothing is fitted to the measured runs: step times come from the profile, and messages of attention
take what `--sync-ms` and `--offload-ms` say. Other flags are those of `cluster.py`.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from rich.table import Table

import report
from artesian.cluster.policies import LoadAwareOffload, Role
from artesian.profile import Profile, read_profile
from artesian.sim.cluster import Call, Cluster, Machine, Policies, Report, machine_of
from cluster import APART, CHUNKED, OFFLOADED, UNCHUNKED, Load, bursts
from machine import describe
from report import Row

KV_BYTES, MAX_SEQS = 1500 << 20, 32
LONGEST_ANSWER = 4_000
MOST_ERROR = 0.15
ROLES: dict[str, list[Role]] = {
    UNCHUNKED: ["both", "both"],
    CHUNKED: ["both", "both"],
    APART: ["prefill", "decode"],
    OFFLOADED: ["prefill", "decode"],
}
BUDGETS = {UNCHUNKED: 16384, CHUNKED: 256, APART: 1024, OFFLOADED: 1024}
"""Of tokens in a step; the scheduler gives prompts a quarter of it while others decode."""
console = report.make_console()


def main() -> None:
    """Simulates the four ways and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--measured", type=Path, default=report.RESULTS / "cluster.json")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--steady", type=int, default=4)
    parser.add_argument("--steady-tokens", type=int, default=1_000)
    parser.add_argument("--burst", type=int, default=2)
    parser.add_argument("--burst-tokens", type=int, default=2_000)
    parser.add_argument("--every", type=float, default=20.0)
    parser.add_argument("--sync-ms", type=float, default=0.5)
    parser.add_argument("--offload-ms", type=float, default=0.5)
    options = parser.parse_args()
    profile = read_profile(options.profile)
    measured = read_measured(options.measured)
    load = bursts(options)
    rows = []
    for way in ROLES:
        machine = machine_for(way, profile, options)
        for metric, value in figures(simulate(way, machine, load)).items():
            real = measured.get((metric, way))
            values = {"simulated": value} | ({} if real is None else {"measured": real})
            rows.append(
                Row(
                    subject=way,
                    metric=metric.rpartition(", ")[0],
                    value=value,
                    unit=metric.rpartition(", ")[2],
                    baseline=None if real is None else "measured",
                    baseline_value=real,
                    values=values,
                )
            )
    print_rows(rows)
    console.print(f"written to {report.write('cluster-predictions', rows, describe())}")


def read_measured(path: Path) -> dict[tuple[str, str], float]:
    """Values of `cluster.py` by metric and way; none if it has not run."""
    if not path.is_file():
        console.print(f"{path} is not there: nothing to compare with")
        return {}
    return {
        (f"{row['metric'].removeprefix('bursts: ')}, {row['unit']}", way): value
        for row in json.loads(path.read_text())["rows"]
        if row["subject"] == "bursts"
        for way, value in row["values"].items()
    }


def machine_for(way: str, profile: Profile, options: argparse.Namespace) -> Machine:
    """One core as `cluster.py` starts a worker on it. An executor has the core to itself while its
    engine does nothing, and shares it evenly else."""
    machine = machine_of(profile, options.sync_ms / 1e3, options.offload_ms / 1e3)
    return replace(
        machine,
        capacity_tokens=int(KV_BYTES / machine.kv_bytes),
        max_seqs=MAX_SEQS,
        prompt_tokens=BUDGETS[way],
        mixed_tokens=max(BUDGETS[way] // 4, 64),
        executor_bytes_per_s=lambda share: machine.decode_bytes_per_s,
        slowdown=lambda share: 2.0,
    )


def simulate(way: str, machine: Machine, load: Load) -> Report:
    """The same load: streams that decode all the time, and bursts."""
    calls = [Call(0.0, load.steady_tokens, LONGEST_ANSWER) for _ in range(load.num_steady)]
    calls += [Call(*arrival) for arrival in load.arrivals]
    policies = Policies(offload=LoadAwareOffload() if way == OFFLOADED else None)
    cluster = Cluster(machine, ROLES[way], policies, max_output_tokens=LONGEST_ANSWER)
    return cluster.run(calls, until_s=load.seconds)


def figures(found: Report) -> dict[str, float]:
    """Named as `cluster.py` names them."""
    return {
        "time between tokens, median, ms": found.itl_ms[0],
        "time between tokens, p99, ms": found.itl_ms[1],
        "tokens decoded, 1/s": found.tokens_per_s,
        "time to first token, median, ms": found.ttft_ms[0],
        "time to first token, p99, ms": found.ttft_ms[1],
    }


def print_rows(rows: list[Row]) -> None:
    """A line for each figure."""
    table = Table(title="Two workers, one core each", title_justify="left")
    for name in ("", "what", "simulated", "measured", "error"):
        table.add_column(name, justify="left" if name in ("", "what") else "right")
    for row in rows:
        error = None if row.ratio is None else row.ratio - 1
        color = "green" if error is not None and abs(error) <= MOST_ERROR else "red"
        table.add_row(
            row.subject,
            f"{row.metric}, {row.unit}",
            f"{row.value:.1f}",
            "-" if row.baseline_value is None else f"{row.baseline_value:.1f}",
            "-" if error is None else f"[{color}]{error:+.0%}[/]",
        )
    console.print(table)


if __name__ == "__main__":
    main()
