"""Hit rates of the context cache's policies, in a simulated server.

    make bench-context-policies
    make bench-context-policies ARGS=--quick

The policies are the real ones. The setting is CachedAttention's (2403.19708): 9,000 conversations
made to the statistics of ShareGPT, about 52,000 turns of which the first 10,000 warm up, one
conversation a second, four models, 128 GiB of host memory and 2 or 10 TiB of disk. Then what
matters in it, one thing at a time, and recorded traces. A session is one piece, as in the paper,
where nothing else is said. `--quick` has a fifth of the conversations and of the disk, and one
model.
"""

import argparse
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import report
from artesian.context.policies import EvictionPolicy
from artesian.sim import GIB
from machine import ROOT, describe
from policy_cases import (
    BELADY,
    CHOOSER,
    FIFO,
    LEAF_FIRST,
    LRU,
    PAPER_SESSIONS,
    POLICIES,
    QUEUE_AWARE,
    WINDOW,
    Case,
    Result,
    demand_bytes,
    run,
)
from report import Row

DATA = ROOT.parent / "shared" / "data" / "llm"
OURS = CHOOSER
PAPER_HITS = {"LLaMA-13B": 86.0, "LLaMA-65B": 71.0, "LLaMA-70B": 89.0, "Falcon-40B": 90.0}
PAPER_LEAD = 27.0
"""Points over LRU at 128 GB and 2 TB."""
PAPER_HOST_SHARE = 99.0
BLOCK_TOKENS = 128
QUICK_SHARE = 0.2
TABLE_BLOCKS = 1_000_000
SESSION_POLICIES = [CHOOSER, QUEUE_AWARE, WINDOW, LRU, FIFO, BELADY]
BLOCK_POLICIES = [CHOOSER, QUEUE_AWARE, LEAF_FIRST, LRU, BELADY]
COLUMNS = [CHOOSER, QUEUE_AWARE, WINDOW, LEAF_FIRST, LRU, FIFO, BELADY, "ceiling", "paper"]
METRICS = [
    ("of the hits in host memory", "%", "host_share"),
    ("waiting requests", "", "queued"),
    ("disk is read", "% of the time", "disk_busy"),
    ("slot to first token", "s", "first_token_s"),
    ("until all is done", "h", "hours"),
]
"""Their units, and their names in `Result`. The first two are shown everywhere."""
console = report.make_console()

Title = str
Group = tuple[Title, str, Case, list[str]]
"""A table, the subject of its rows, a case and the policies it is run with."""


def main() -> None:
    options = parse()
    machine = describe()
    groups = list(groups_of(options))
    cases = list(
        dict.fromkeys(replace(case, policy=name) for _, _, case, names in groups for name in names)
    )
    started = time.perf_counter()
    with ProcessPoolExecutor(options.processes) as pool:
        results = {}
        for case, result in zip(cases, pool.map(run, cases), strict=True):
            results[case] = result
            if len(results) % 20 == 0:
                console.print(f"{len(results)} of {len(cases)} runs")
    console.print(f"{len(cases)} runs in {time.perf_counter() - started:.0f} s")
    tables: dict[Title, list[Row]] = {}
    for title, subject, case, names in groups:
        by_name = {name: results[replace(case, policy=name)] for name in names}
        tables.setdefault(title, []).extend(rows_of(title, subject, case, by_name))
    tables["a decision"] = list(decision_rows(TABLE_BLOCKS // (10 if options.quick else 1)))
    for title, rows in tables.items():
        report.print_table(title, rows, COLUMNS, console)
    extra: dict[str, object] = {"quick": options.quick}
    rows = [row for some in tables.values() for row in some]
    console.print(f"written to {report.write('context-policies', rows, machine, extra)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("ARTESIAN_LLM_TRACES", DATA))
    parser.add_argument("--data", type=Path, default=data, help="folder of the recorded traces")
    parser.add_argument("--quick", action="store_true", help="a fifth of it, and one model")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    return parser.parse_args()


def groups_of(options: argparse.Namespace) -> Iterator[Group]:
    """All runs, in the order in which they are shown."""
    share = QUICK_SHARE if options.quick else 1.0
    base = Case(
        model="LLaMA-13B",
        policy="",
        num_sessions=int(share * PAPER_SESSIONS),
        disk_gib=share * 2048,
    )
    some = [CHOOSER, QUEUE_AWARE, LRU]
    for tib in (2, 10):
        for model in list(PAPER_HITS)[: 1 if options.quick else None]:
            case = replace(base, model=model, disk_gib=share * tib * 1024)
            yield f"128 GiB and {tib} TiB", f"{model}, {tib} TiB", case, SESSION_POLICIES
    for model in ("LLaMA-13B", "LLaMA-65B")[: 1 if options.quick else None]:
        title = f"blocks of {BLOCK_TOKENS} tokens, 128 GiB and 2 TiB"
        case = replace(base, model=model, block_tokens=BLOCK_TOKENS)
        yield title, f"{model}, blocks", case, BLOCK_POLICIES
    large = replace(base, disk_gib=share * 10 * 1024)
    for tokens in (4096, 32_768):
        case = replace(large, window_tokens=tokens)
        yield "window, 13B, 10 TiB", f"{tokens} tokens", case, [*some, WINDOW, FIFO]
    for model in ("LLaMA-13B", "LLaMA-65B")[: 1 if options.quick else None]:
        for gb in (5, 10, 20):
            case = replace(large, model=model, disk_bytes_per_s=gb * 1e9)
            yield "disk, 10 TiB", f"{model}, {gb} GB/s", case, some
    for rate in (0.1, 0.5, 1.0, 1.5, 2.0):
        case = replace(base, sessions_per_s=rate)
        yield "sessions/s, 13B, 2 TiB", f"{rate:g} sessions/s", case, some
    for gap_s in (10.0, 60.0, 300.0, 1800.0):
        case = replace(base, gap_s=gap_s)
        yield "time to think, 13B, 2 TiB", f"{gap_s:g} s", case, some
    yield from ratios(base, some)
    if options.data.is_dir() and any(options.data.glob("mooncake_conversation*")):
        yield from traces(options.data)
    else:
        console.print(f"[yellow]no traces in {options.data}: --data or ARTESIAN_LLM_TRACES[/]")


def ratios(base: Case, names: list[str]) -> Iterator[Group]:
    """Capacity by demand: what all conversations would have in the end."""
    demand_gib = demand_bytes(base) / GIB
    for ratio in (0.05, 0.1, 0.25, 0.5, 1.0):
        case = replace(base, disk_gib=max(1.0, ratio * demand_gib - base.host_gib))
        yield f"capacity by demand ({demand_gib / 1024:.1f} TiB), 13B", f"{ratio:g}", case, names


def traces(data: Path) -> Iterator[Group]:
    """Mooncake and agents, hardly loaded and overloaded, with small caches and large ones."""
    for name in ("Mooncake", "agents"):
        for load in (0.3, 1.2):
            for share in (0.02, 0.1, 0.3):
                case = Case(model=name, policy="", data=data, load=load, cache_share=share)
                subject = f"load {load:g}, cache {share:.0%}"
                yield f"{name} trace", subject, case, [*BLOCK_POLICIES, FIFO]


def rows_of(title: Title, subject: str, case: Case, results: dict[str, Result]) -> Iterable[Row]:
    """Hits, where they were, and how many waited."""
    ours = results[OURS]
    is_paper = case.data is None
    tokens = bool(case.block_tokens) or not is_paper
    hits = {n: r.tokens if tokens else r.later_turns for n, r in results.items()}
    rows = [
        Row(
            subject=subject,
            metric=f"{subject}: hits, {'tokens' if tokens else 'turns'} with a history",
            value=hits[OURS],
            unit="%",
            baseline=LRU,
            baseline_value=hits[LRU] + (PAPER_LEAD if _has_lead(subject) else 0),
            target=1.0 if _has_lead(subject) else None,
            values=hits,
        )
    ]
    if is_paper and not case.block_tokens:
        paper = PAPER_HITS[case.model] if subject.endswith(", 10 TiB") else None
        values = {n: r.all_turns for n, r in results.items()} | {"ceiling": ours.ceiling}
        rows.append(
            Row(
                subject=subject,
                metric="hits, all turns",
                value=ours.all_turns,
                unit="%",
                baseline="paper" if paper else None,
                baseline_value=paper,
                target=1.0 if paper else None,
                values=values | ({"paper": paper} if paper else {}),
            )
        )
    for metric, unit, name in METRICS if title.startswith(("128", "disk")) else METRICS[:2]:
        values = {n: float(getattr(r, name)) for n, r in results.items() if n != BELADY}
        is_share = name == "host_share" and subject.endswith(", 10 TiB")
        rows.append(
            Row(
                subject=subject,
                metric=metric,
                value=values[OURS],
                unit=unit,
                baseline="paper" if is_share else None,
                baseline_value=PAPER_HOST_SHARE if is_share else None,
                target=1.0 if is_share else None,
                values=values,
            )
        )
    return rows


def _has_lead(subject: str) -> bool:
    return subject == "LLaMA-13B, 2 TiB"


def decision_rows(num_blocks: int) -> Iterator[Row]:
    """What a table of so many blocks costs the thread that decides: medians, in microseconds."""
    chains = [[b"%032d" % (100 * c + i) for i in range(100)] for c in range(num_blocks // 100)]
    found: dict[str, tuple[float, float, float]] = {}
    for name in (CHOOSER, QUEUE_AWARE, LEAF_FIRST):
        policy = POLICIES[name](1e18)
        for chain in chains:
            for block in chain:
                policy.add(block, 10)
            policy.use(chain)
        found[name] = _decisions(policy, chains)
    for number, metric in enumerate(("job of 100 blocks comes", "victims, each", "decision")):
        values = {name: times[number] for name, times in found.items()}
        yield Row(
            subject=f"{num_blocks} blocks",
            metric=f"{num_blocks} blocks: {metric}",
            value=values[OURS],
            unit="us",
            values=values,
        )


def _decisions(policy: EvictionPolicy, chains: list[list[bytes]]) -> tuple[float, float, float]:
    coming, deciding, sizes = [], [], []
    capacity = 10 * len(policy)
    for number in range(500):
        started = time.perf_counter()
        policy.enqueue((number,), chains[number])
        coming.append(time.perf_counter() - started)
    for _ in range(500):
        started = time.perf_counter()
        victims = policy.victims(0.9 * capacity + 320, capacity * 0.94)
        deciding.append(time.perf_counter() - started)
        sizes.append(len(victims))
        for name in victims:
            policy.forget(name)
            policy.add(name, 10)
    middle = len(deciding) // 2
    decision = sorted(deciding)[middle]
    return 1e6 * sorted(coming)[middle], 1e6 * decision / max(sizes), 1e6 * decision


if __name__ == "__main__":
    main()
