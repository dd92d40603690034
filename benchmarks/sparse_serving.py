"""Throughput of a server whose requests have long contexts: attending to what matters over dense.

    make bench-sparse-serving
    make bench-sparse-serving ARGS='--rounds 5 --ways dense progressive window'

A real server, asked over HTTP by several clients at once. Each round has documents of its own,
texts of several thousand tokens, about each of which several questions are asked; the first one
makes the server compute it, the others find it cached. The ways take turns within a round, over the
same documents, each with a cache salt of its own, so that none finds what another has left. A
figure is the median of the rounds. What the ways cost in quality `make bench-sparse` says.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from dataclasses import dataclass, field

import httpx

import report
from artesian.eval.texts import standard_text
from artesian.loader import open_checkpoint
from engines import MODELS
from machine import describe
from multiturn import serving_at
from report import Row

DENSE, PROGRESSIVE = "dense", "progressive"
TARGETS = {PROGRESSIVE: 1.4}
WAYS: dict[str, object] = {
    DENSE: DENSE,
    PROGRESSIVE: PROGRESSIVE,
    "top-k": {"selector": "top-k", "budget_tokens": 1024},
    "top-p": "top-p",
    "window": {"selector": "window", "budget_tokens": 1024},
}
WARM_UP_TOKENS = 200
TIMEOUT = httpx.Timeout(600.0, connect=10.0)
console = report.make_console()


@dataclass(slots=True)
class Load:
    """What one way did with a round's requests.

    Attributes:
        seconds: from the first request to the last token.
        first_s: time to the first token of each request; token_s: mean time of each one's others.
        kept: part of the groups of keys that was read, of what dense attention reads; 1 if all.
    """

    seconds: float = 0.0
    num_tokens: int = 0
    first_s: list[float] = field(default_factory=list)
    token_s: list[float] = field(default_factory=list)
    kept: float = 1.0


@dataclass(frozen=True, slots=True)
class Mix:
    """The requests of a round, and how many clients send them."""

    prompts: list[list[int]]
    num_answer: list[int]
    num_clients: int


def make_mix(text: list[int], seed: int, options: argparse.Namespace) -> Mix:
    """Documents from places of the text; each question is another passage behind one."""
    source = random.Random(seed)
    prompts, answers = [], []
    for _ in range(options.documents):
        length = source.randrange(*options.lengths)
        start = source.randrange(len(text) - length)
        document = text[start : start + length]
        for _ in range(options.questions):
            place = source.randrange(len(text) - options.question)
            prompts.append(document + text[place : place + options.question])
            answers.append(source.randrange(options.answer // 2, options.answer * 3 // 2))
    order = list(range(len(prompts)))
    source.shuffle(order)
    return Mix([prompts[i] for i in order], [answers[i] for i in order], options.clients)


async def run_mix(base_url: str, mix: Mix, way: object, salt: str) -> Load:
    """All requests of a mix, by so many clients."""
    load = Load()
    waiting = list(zip(mix.prompts, mix.num_answer, strict=True))[::-1]
    async with httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT) as client:
        before = await _groups(client)
        started = time.perf_counter()

        async def work() -> None:
            while waiting:
                prompt, num_answer = waiting.pop()
                await _ask(client, prompt, num_answer, way, salt, load)

        await asyncio.gather(*(work() for _ in range(mix.num_clients)))
        load.seconds = time.perf_counter() - started
        after = await _groups(client)
    read, visible = (now - then for now, then in zip(after, before, strict=True))
    load.kept = read / visible if visible else 1.0
    return load


async def _ask(
    client: httpx.AsyncClient,
    prompt: list[int],
    num_answer: int,
    way: object,
    salt: str,
    load: Load,
) -> None:
    body = {
        "prompt": prompt,
        "max_tokens": num_answer,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        "attention": way,
        "cache_salt": salt,
    }
    started, times, num_tokens = time.perf_counter(), [], 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        if response.is_error:
            raise RuntimeError(f"the server answered {(await response.aread()).decode()}")
        async for line in response.aiter_lines():
            data = line.removeprefix("data:").strip()
            if not data or data == "[DONE]":
                continue
            times.append(time.perf_counter())
            if usage := json.loads(data).get("usage"):
                num_tokens = usage["completion_tokens"]
    if num_tokens != num_answer:
        raise RuntimeError(f"{num_tokens} of {num_answer} tokens came")
    load.num_tokens += num_tokens
    load.first_s.append(times[0] - started)
    load.token_s.append((times[-1] - times[0]) / (num_tokens - 1))


async def _groups(client: httpx.AsyncClient) -> tuple[float, float]:
    """Groups of keys that were read, and that dense attention would have read."""
    await asyncio.sleep(0.5)  # the worker tells its counts a few times a second
    text = (await client.get("/metrics")).text
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    names = ("read", "visible")
    read, visible = (float(found[f"artesian_attention_groups_{name}_total"]) for name in names)
    return read, visible


def measure(name: str, path: str, text: list[int], options: argparse.Namespace) -> list[Row]:
    """Rows of one model."""
    loads: dict[str, list[Load]] = {way: [] for way in options.ways}
    settings: dict[str, object] = {"max_num_seqs": options.clients}
    if options.memory:
        settings["kv_cache_memory_bytes"] = options.memory
    for number in range(options.rounds):
        mix = make_mix(text, number, options)
        ways = list(loads)
        with serving_at(path, "--attention-summaries", **settings) as url:
            for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
                warm_up = Mix([text[:WARM_UP_TOKENS]], [8], 1)
                asyncio.run(run_mix(url, warm_up, WAYS[way], "warm-up"))
                load = asyncio.run(run_mix(url, mix, WAYS[way], f"{way}-{number}"))
                loads[way].append(load)
                console.print(
                    f"{name}: round {number + 1}, {way}: {load.num_tokens / load.seconds:.1f} "
                    f"tokens/s in {load.seconds:.1f} s, {load.kept:.0%} of the keys read"
                )
    low, high = options.lengths
    subject = (
        f"{name}, {options.clients} clients, {options.documents} documents of {low} to {high} "
        f"tokens, {options.questions} questions to each, answers of {options.answer} tokens"
    )
    return [row for way in loads for row in _rows(subject, way, loads)]


def _rows(subject: str, way: str, loads: dict[str, list[Load]]) -> list[Row]:
    def figure(one: str, name: str) -> float:
        return statistics.median(_figures(load)[name] for load in loads[one])

    is_compared = way != DENSE and DENSE in loads
    rows = []
    for name, unit in (
        ("output", "tokens/s"),
        ("time per token", "ms"),
        ("time to first token", "ms"),
        ("keys read", "%"),
    ):
        is_output = name == "output"
        values = [_figures(load)[name] for load in loads[way]]
        rows.append(
            Row(
                subject=subject,
                metric=f"{name}, {way}",
                value=figure(way, name),
                unit=unit,
                baseline=DENSE if is_compared else None,
                baseline_value=figure(DENSE, name) if is_compared else None,
                better="more" if is_output else "less",
                target=TARGETS.get(way) if is_output else None,
                values={"Artesian": figure(way, name)}
                | ({DENSE: figure(DENSE, name)} if is_compared else {}),
                spread={"Artesian": (min(values), max(values))},
            )
        )
    return rows


def _figures(load: Load) -> dict[str, float]:
    return {
        "output": load.num_tokens / load.seconds,
        "time per token": statistics.median(load.token_s) * 1e3,
        "time to first token": statistics.median(load.first_s) * 1e3,
        "keys read": load.kept * 100,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=[MODELS[0].name])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[DENSE, PROGRESSIVE])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--documents", type=int, default=4)
    parser.add_argument("--lengths", type=int, nargs=2, default=(5_000, 7_500))
    parser.add_argument("--questions", type=int, default=4, help="to each document")
    parser.add_argument("--question", type=int, default=40, help="tokens of a question")
    parser.add_argument("--answer", type=int, default=192, help="tokens of an answer, on average")
    parser.add_argument("--memory", default="1GiB", help="for KV")
    options = parser.parse_args()
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    rows: list[Row] = []
    for model in MODELS:
        path = model.find()
        if model.name in options.models and path is not None:
            tokenizer = open_checkpoint(str(path)).tokenizer()
            text = tokenizer.encode(standard_text(), add_special_tokens=False)
            found = measure(model.name, str(path), text, options)
            report.print_table(model.title, found, ["Artesian", DENSE], console)
            rows += found
    extra: dict[str, object] = {"rounds": options.rounds}
    console.print(f"written to {report.write('sparse_serving', rows, machine, extra)}")


if __name__ == "__main__":
    main()
