"""The same tokens, however workers share the work: mixed requests to clusters of every shape.

    make bench-cluster-identity
    make bench-cluster-identity ARGS='--requests 60 --shapes 1P1D 2P2D'

Greedy requests of 1 to 4,000 tokens, some of which begin like earlier ones, some of which are given
up in mid-answer, many at a time. One worker alone answers them first; then clusters do.
"""

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

import report
from machine import describe
from multiturn import FIRST_ID, LAST_ID, free_port
from report import Row

console = report.make_console()
LONGEST = 4_000
SHAPES = ["2B", "1P1D", "2P1D", "1P2D", "2P2D"]
START_S = 180.0
REQUEST_S = 600.0
NUM_AT_ONCE = 8
CANCEL_SHARE, PREFIX_SHARE = 0.1, 0.4


@dataclass(frozen=True)
class Case:
    """A request: `most_tokens` of its answer are taken, then it is given up."""

    prompt: list[int]
    num_answer: int
    most_tokens: int | None


def make_cases(count: int, seed: int) -> list[Case]:
    """Lengths are spread evenly over orders of magnitude."""
    source = random.Random(seed)
    cases: list[Case] = []
    for _ in range(count):
        length = round(LONGEST ** source.random())
        prompt: list[int] = []
        if cases and source.random() < PREFIX_SHARE:
            earlier = source.choice(cases).prompt
            prompt = earlier[: source.randrange(len(earlier) + 1)][:length]
        prompt += [source.randrange(FIRST_ID, LAST_ID) for _ in range(length - len(prompt))]
        num_answer = source.choice([1, 4, 16, 48])
        most = source.randrange(1, num_answer + 1) if source.random() < CANCEL_SHARE else None
        cases.append(Case(prompt, num_answer, most))
    return cases


@contextmanager
def serving(flags: list[str]) -> Iterator[str]:
    """A server; its URL."""
    port = free_port()
    command = [sys.executable, "-m", "artesian", "serve", "--port", str(port), *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + START_S
        while not _is_ready(url):
            if time.monotonic() > until or process.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} does not serve")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


async def answer_all(url: str, cases: list[Case]) -> list[str]:
    """The text of each answer."""
    limits = httpx.Limits(max_connections=NUM_AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=REQUEST_S, limits=limits) as client:
        free = asyncio.Semaphore(NUM_AT_ONCE)

        async def answer(case: Case) -> str:
            async with free:
                return await answer_one(client, case)

        return await asyncio.gather(*map(answer, cases))


async def answer_one(client: httpx.AsyncClient, case: Case) -> str:
    """The text of an answer, or what went wrong."""
    body = {
        "prompt": case.prompt,
        "max_tokens": case.num_answer,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    text, num_events = "", 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        if response.status_code != 200:
            return f"HTTP {response.status_code}: {(await response.aread())!r}"
        async for line in response.aiter_lines():
            event = line.removeprefix("data: ")
            if event == line or event == "[DONE]":
                continue
            text += str(json.loads(event)["choices"][0]["text"])
            num_events += 1
            if num_events == case.most_tokens:
                return text
    return text


def flags_of(shape: str, num_nodes: int, ratio: float, model: str) -> list[str]:
    """Flags of `artesian serve`."""
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+)([PDB])", shape)}
    names = {"P": "--prefill", "D": "--decode", "B": "--both"}
    flags = [model, "--memory-nodes", str(num_nodes), "--kv-cache-memory-bytes", "600MiB"]
    for kind, count in counts.items():
        flags += [names[kind], str(count)]
    return flags + (["--offload", "--offload-ratio", str(ratio)] if ratio else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--shapes", nargs="+", default=SHAPES)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.0, 0.3, 0.7, 1.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--add", action="store_true", help="keep the results of other shapes")
    options = parser.parse_args()
    machine = describe()
    cases = make_cases(options.requests, options.seed)
    with serving([options.model]) as url:
        wanted = asyncio.run(answer_all(url, cases))
    console.print(f"one worker has answered {len(cases)} requests")
    rows = []
    for shape in options.shapes:
        for num_nodes in options.nodes:
            for ratio in options.ratios if "P" in shape else [0.0]:
                row = _compare(options.model, shape, num_nodes, ratio, cases, wanted)
                console.print(f"{row.metric}: {row.value:.0f} wrong of {len(cases)}")
                rows.append(row)
    report.print_table("token identity", rows, ["Artesian"], console)
    path = report.write("cluster-identity", rows, machine, adds=options.add)
    console.print(f"written to {path}")


def _compare(
    model: str, shape: str, num_nodes: int, ratio: float, cases: list[Case], wanted: list[str]
) -> Row:
    name = f"{shape}, memory nodes {num_nodes}, offload ratio {ratio:g}"
    started = time.monotonic()
    with serving(flags_of(shape, num_nodes, ratio, model)) as url:
        found = asyncio.run(answer_all(url, cases))
    wrong = [i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b]
    for index in wrong[:3]:
        length = len(cases[index].prompt)
        console.print(f"request {index} ({length} tokens): {found[index]!r}, not {wanted[index]!r}")
    console.print(f"{name}: {time.monotonic() - started:.0f} s")
    return Row(
        subject=name,
        metric=f"wrong answers, {name}",
        value=float(len(wrong)),
        unit="",
        baseline="requests",
        baseline_value=float(len(cases)),
        better="less",
        target=0.0,
        values={"Artesian": float(len(wrong))},
    )


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready").status_code == 200
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    main()
