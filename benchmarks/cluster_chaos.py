"""A cluster in which somebody dies all the time: no request fails, and no token is wrong.

    make bench-cluster-chaos
    make bench-cluster-chaos ARGS='--minutes 15'

Streams of mixed lengths run all the time. Every few seconds a process is killed by SIGKILL or
stopped by SIGSTOP: a worker of either role (the executor dies with one that prefills), the front,
or a memory node is lost. Every answer, greedy, is compared with that of one worker. When the front
dies its connections do: those clients, and no others, ask again.

With --own-pool the cluster uses a pool that outlives it, loses no memory node, and is checked at
the end, when nobody else uses it: then no byte may be missing.
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

import report
from artesian.pool import Pool
from cluster_identity import Case, answer_all, answer_one, flags_of, make_cases, serving
from machine import describe
from report import Row

console = report.make_console()
NUM_AT_ONCE = 6
MOST_TRIES = 20
PROCESSES = ["prefill", "decode", "front", "prefill", "decode", "stopped"]
VICTIMS = [*PROCESSES, "node"]
RECOVERY_S = 60.0


@dataclass
class Tally:
    """What happened."""

    counts: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    is_over: bool = False


async def _ask(client: httpx.AsyncClient, case: Case, tally: Tally) -> str:
    """An answer. A connection that breaks with the front is made anew, and so is one to a front
    that has just started: any client that tries again on 503 does so."""
    for _ in range(MOST_TRIES):
        try:
            text = await answer_one(client, case)
        except httpx.TransportError:
            text = "HTTP 503"
        if not text.startswith("HTTP 503"):
            return text
        tally.counts["asked again as the front had died"] += 1
        await asyncio.sleep(0.5)
    return "no front"


async def _stream(
    client: httpx.AsyncClient,
    source: random.Random,
    cases: list[Case],
    wanted: list[str],
    tally: Tally,
) -> None:
    while not tally.is_over:
        index = source.randrange(len(cases))
        found = await _ask(client, cases[index], tally)
        tally.counts["requests"] += 1
        if found != wanted[index]:
            tally.counts["wrong or failed"] += 1
            console.print(f"request {index}: {found!r}, not {wanted[index]!r}")


async def _status(client: httpx.AsyncClient) -> dict[str, object] | None:
    try:
        response = await client.get("/v1/cluster")
    except httpx.TransportError:
        return None
    return dict(response.json()) if response.status_code == 200 else None


async def _is_whole(client: httpx.AsyncClient, num_workers: int) -> bool:
    status = await _status(client)
    if status is None:
        return False
    members = status["workers"]
    assert isinstance(members, list)
    num_ready = sum(member["state"] == "ready" for member in members)
    return bool(num_ready == num_workers)


async def _strike(client: httpx.AsyncClient, victim: str, tally: Tally) -> None:
    """Kills one, and waits until all are there again."""
    status = await _status(client)
    if status is None:
        return
    members = status["workers"]
    assert isinstance(members, list)
    if victim == "front":
        os.kill(int(str(status["front_pid"])), signal.SIGKILL)
    elif victim == "node":
        nodes = sorted(Path("/dev/shm").glob(f"artesian.*.{status['name']}-pool.node*"))
        if not nodes:
            return
        _lose(nodes[-1])
        tally.counts["memory node lost"] += 1
        return
    else:
        role = random.choice(["prefill", "decode"]) if victim == "stopped" else victim
        pids = [member["pid"] for member in members if member["role"] == role and member["pid"]]
        if not pids:
            return
        number = signal.SIGSTOP if victim == "stopped" else signal.SIGKILL
        os.kill(random.choice(pids), number)
    tally.counts[f"{victim} {'by SIGSTOP' if victim == 'stopped' else 'killed'}"] += 1
    started = time.monotonic()
    await asyncio.sleep(0.5)
    while not await _is_whole(client, len(members)):
        if time.monotonic() - started > RECOVERY_S:
            tally.counts["not whole again"] += 1
            return
        await asyncio.sleep(0.1)
    tally.recoveries.append(time.monotonic() - started)


def _lose(node: Path) -> None:
    """Declares a memory node dead, as a host that is gone would be."""
    size = node.stat().st_size
    with node.open("r+b") as file:
        file.seek(size - 4096 + 16)
        file.write((1).to_bytes(8, "little"))


async def _run(
    url: str, cases: list[Case], wanted: list[str], options: argparse.Namespace
) -> Tally:
    tally = Tally()
    victims = PROCESSES if options.own_pool else VICTIMS
    source = random.Random(options.seed)
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        streams = [
            asyncio.create_task(_stream(client, source, cases, wanted, tally))
            for _ in range(NUM_AT_ONCE)
        ]
        until_s = time.monotonic() + 60 * options.minutes
        number = 0
        while time.monotonic() < until_s:
            await asyncio.sleep(options.every * (0.5 + source.random()))
            with contextlib.suppress(httpx.HTTPError):
                await _strike(client, victims[number % len(victims)], tally)
            number += 1
        tally.is_over = True
        await asyncio.gather(*streams)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--shape", default="2P2D")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--ratio", type=float, default=0.7, help="of offloaded sequences")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between deaths, about")
    parser.add_argument("--cases", type=int, default=60, help="different requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--own-pool", action="store_true", help="check the pool at the end")
    options = parser.parse_args()
    machine = describe()
    cases = make_cases(options.cases, options.seed)
    with serving([options.model]) as url:
        wanted = asyncio.run(answer_all(url, cases))
    flags = flags_of(options.shape, options.nodes, options.ratio, options.model)
    flags += ["--worker-heartbeat-timeout-s", "5"]
    address = f"shm://chaos-{os.getpid()}"
    if options.own_pool:
        flags += ["--context-pool", address, "--context-pool-bytes", "256MiB"]
    with serving(flags) as url:
        tally = asyncio.run(_run(url, cases, wanted, options))
    rows = [_row(name, float(count), "") for name, count in tally.counts.items()]
    if tally.recoveries:
        median = statistics.median(tally.recoveries)
        rows.append(_row("until all are there again, median", median, "s"))
        rows.append(_row("until all are there again, longest", max(tally.recoveries), "s"))
    failed = float(tally.counts["wrong or failed"])
    rows.append(_row("requests that failed or were wrong", failed, "", target=0.0))
    if options.own_pool:
        rows += _check(address)
    rows += [_row("shared memory left behind", float(len(_left())), "", target=0.0)]
    report.print_table(f"{options.shape} under kills", rows, ["Artesian"], console)
    console.print(f"written to {report.write('cluster-chaos', rows, machine)}")


def _check(address: str) -> list[Row]:
    """What is wrong with a pool that nobody uses any more; then it is removed."""
    try:
        with Pool(address, create=False) as pool:
            found = pool.check()
        bad = [finding for finding in found.findings if finding.severity != "note"]
        for finding in bad:
            console.print(str(finding), markup=False)
        assert found.is_exact, "somebody still uses the pool"
        return [
            _row("keys in the pool at the end", float(found.num_keys), ""),
            _row("findings of `pool check`", float(len(bad)), "", target=0.0),
            _row("bytes that nobody knows of", float(found.leaked_bytes), "B", target=0.0),
        ]
    finally:
        Pool.remove(address)


def _left() -> list[str]:
    return [path.name for path in Path("/dev/shm").glob("artesian.*") if "-pool." in path.name]


def _row(metric: str, value: float, unit: str, target: float | None = None) -> Row:
    return Row(
        subject="chaos",
        metric=metric,
        value=value,
        unit=unit,
        baseline=None if target is None else "none",
        baseline_value=None if target is None else 1.0,
        better="less",
        target=target,
        values={"Artesian": value},
    )


if __name__ == "__main__":
    main()
