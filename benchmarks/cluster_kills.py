"""What kills cost: each role and the front are killed and stopped while requests stream.

    make bench-cluster_kills
    make bench-cluster_kills ARGS='--requests 100 --rounds 1'

Clients stream greedy answers from a cluster of all roles; in the middle of it one process gets
SIGKILL or SIGSTOP. Every answer is compared with that of an undisturbed run. A client tries again
only if its connection was lost, which happens when the front dies.
"""

import argparse
import asyncio
import os
import signal
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import report
from cluster_identity import serving
from machine import describe
from report import Row

console = report.make_console()
FLAGS = [
    *("--prefill", "1", "--decode", "1", "--both", "1", "--memory-nodes", "2"),
    *("--max-num-seqs", "32", "--kv-cache-memory-bytes", "256MiB", "--max-model-len", "1024"),
    *("--worker-heartbeat-timeout-s", "3", "--context-pool-bytes", "256MiB"),
]
VICTIMS = {"prefill": "w1", "decode": "w2", "both": "w3", "front": ""}
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGSTOP": signal.SIGSTOP}
NUM_TOKENS = 48
MAX_ATTEMPTS = 200
RETRY_S = 0.1
TIMEOUT_S = 120.0


@dataclass
class Answer:
    """What a client has seen; `longest_gap_s` between two of its tokens, retries included."""

    text: str
    longest_gap_s: float
    num_attempts: int


@dataclass
class Kill:
    """What became of one kill.

    Attributes:
        noticed_s: until the cluster said so; whole_s: until the successor served.
    """

    answers: list[Answer] = field(default_factory=list)
    noticed_s: float = 0.0
    whole_s: float = 0.0


def prompts(num_requests: int) -> list[str]:
    """Short and long ones, some with a common beginning."""
    return [
        f"Chapter {number}. " * (1 + number % 3 * 20) + "Once upon a time"
        for number in range(num_requests)
    ]


async def stream(http: httpx.AsyncClient, prompt: str) -> Answer:
    """An answer, from as many attempts as it takes."""
    body = {
        "prompt": prompt,
        "max_tokens": NUM_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    last: float | None = None
    longest = 0.0
    for attempt in range(1, MAX_ATTEMPTS + 1):
        text, is_whole = "", False
        try:
            async with http.stream("POST", "/v1/completions", json=body) as response:
                if response.status_code == 503:
                    raise ConnectionError("not yet")
                response.raise_for_status()
                async for line in response.aiter_lines():
                    is_whole = is_whole or line == "data: [DONE]"
                    if line.startswith("data: {"):
                        event = httpx.Response(200, content=line[6:]).json()
                        if "error" in event:
                            return Answer(f"error: {event['error']}", longest, attempt)
                        text += event["choices"][0]["text"]
                        now = time.monotonic()
                        longest = max(longest, 0.0 if last is None else now - last)
                        last = now
        except (httpx.TransportError, ConnectionError):
            await asyncio.sleep(RETRY_S)
            continue
        if is_whole:
            return Answer(text, longest, attempt)
    return Answer("no answer", longest, MAX_ATTEMPTS)


async def stream_all(url: str, num_requests: int) -> list[Answer]:
    """All at once."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits) as http:
        return await asyncio.gather(*(stream(http, prompt) for prompt in prompts(num_requests)))


async def look(http: httpx.AsyncClient) -> dict[str, Any]:
    """The cluster as it says it is; nothing while there is no front."""
    try:
        response = await http.get("/v1/cluster", timeout=1.0)
        found: dict[str, Any] = response.json() if response.status_code == 200 else {}
        ready = await http.get("/ready", timeout=1.0)
        return found if ready.status_code == 200 else {}
    except (httpx.TransportError, ValueError):
        return {}


def front_pid(keeper_children_of: int) -> int:
    """The front among the children of the process whose child has this pid."""
    status = Path(f"/proc/{keeper_children_of}/stat").read_text()
    keeper = int(status.rpartition(")")[2].split()[1])
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    (pid,) = {int(c) for c in children if b"api.front" in Path(f"/proc/{c}/cmdline").read_bytes()}
    return pid


async def kill(url: str, victim: str, number: signal.Signals, num_requests: int) -> Kill:
    """Load with a kill in the middle of it."""
    found = Kill()
    async with httpx.AsyncClient(base_url=url) as http:
        before = await look(http)
        workers = {worker["id"]: worker for worker in before["workers"]}
        pid = workers[victim]["pid"] if victim else front_pid(workers["w1"]["pid"])
        load = asyncio.create_task(stream_all(url, num_requests))
        await asyncio.sleep(1.0)
        os.kill(pid, number)
        started = time.monotonic()
        until = started + TIMEOUT_S
        while time.monotonic() < until:
            now = await look(http)
            elapsed = time.monotonic() - started
            if not found.noticed_s and _is_noticed(now, victim, pid):
                found.noticed_s = elapsed
            if found.noticed_s and _is_whole(now, victim, before):
                found.whole_s = elapsed
                break
            await asyncio.sleep(0.02)
        found.answers = await load
    return found


def _is_noticed(now: dict[str, Any], victim: str, pid: int) -> bool:
    if not victim:
        return not Path(f"/proc/{pid}").exists()
    return any(w["id"] == victim and w["pid"] != pid for w in now.get("workers", []))


def _is_whole(now: dict[str, Any], victim: str, before: dict[str, Any]) -> bool:
    if not now or any(worker["state"] != "ready" for worker in now["workers"]):
        return False
    return bool(victim) or now["front_generation"] > before["front_generation"]


def rows_of(name: str, kills: list[Kill], expected: list[Answer]) -> list[Row]:
    """The figures of one role and signal."""
    texts = [answer.text for answer in expected]
    wrong = sum(
        answer.text != text
        for each in kills
        for answer, text in zip(each.answers, texts, strict=True)
    )
    retried = sum(answer.num_attempts > 1 for each in kills for answer in each.answers)
    figures = {
        "until it is noticed, s": statistics.median(each.noticed_s for each in kills),
        "until all serve again, s": statistics.median(each.whole_s for each in kills),
        "longest pause of a stream, s": statistics.median(
            max(answer.longest_gap_s for answer in each.answers) for each in kills
        ),
        "wrong or failed answers": float(wrong),
        "answers that clients asked for again": float(retried),
    }
    return [
        Row(subject=name, metric=f"{name}: {metric}", value=value, unit="", values={"kill": value})
        for metric, value in figures.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    machine = describe()
    rows: list[Row] = []
    with serving([options.model, *FLAGS]) as url:
        expected = asyncio.run(stream_all(url, options.requests))
        pause = max(answer.longest_gap_s for answer in expected)
        metric = "nobody is killed: longest pause of a stream, s"
        rows.append(
            Row(subject="none", metric=metric, value=pause, unit="", values={"kill": pause})
        )
        for role, victim in VICTIMS.items():
            for signal_name, number in SIGNALS.items():
                kills = [
                    asyncio.run(kill(url, victim, number, options.requests))
                    for _ in range(options.rounds)
                ]
                rows += rows_of(f"{role}, {signal_name}", kills, expected)
    report.print_table("kills under load", rows, ["kill"], console)
    setting = {"requests": options.requests, "rounds": options.rounds, "flags": FLAGS}
    console.print(f"wrote {report.write('cluster_kills', rows, machine, setting)}")


if __name__ == "__main__":
    main()
