"""Whole conversations, turn by turn: what reusing KV saves, beside llama.cpp's server.

    make bench-multiturn-sessions
    make bench-multiturn-sessions ARGS='--models smollm2 --data DIR'

A conversation that grows to the full window, and recorded ones if their folder is named. Each turn
is sent to a real server, which generates an answer of some tokens; the next prompt goes on from
what the conversation says, not from that answer. A conversation runs through every way in turn.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

import conversations
import llama_server
import report
from artesian.loader import open_checkpoint
from engines import MODELS, ModelSpec
from machine import describe
from multiturn import Server, free_port, serving
from report import Row

ARTESIAN, COMPUTED = "Artesian", "Artesian, computed"
LLAMA = "llama.cpp"
NUM_NEW, NUM_ANSWER = 168, 32
GROWING = "growing to"
LEAST_SPEEDUP = 10.0
MOST_COST = 0.5
console = report.make_console()

Turn = Callable[[list[int]], tuple[float, float]]
"""Sends a prompt; returns the seconds to the first token, and to the last one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=[model.name for model in MODELS])
    parser.add_argument("--window", type=int, default=8_000, help="tokens of the growing one")
    parser.add_argument("--data", type=Path, help="folder that holds conversations/")
    parser.add_argument("--count", type=int, default=6, help="recorded conversations of each kind")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    rows: list[Row] = []
    for model in MODELS:
        path = model.find()
        if model.name in options.models and path is not None:
            found = [row for load in _loads(model, path, options) for row in _measure(model, *load)]
            columns = [ARTESIAN, COMPUTED, LLAMA]
            report.print_table(model.title, found, columns, console)
            rows += found
    console.print(f"written to {report.write('multiturn-sessions', rows, machine)}")


Load = tuple[str, list[conversations.Conversation], int]


def _loads(model: ModelSpec, path: Path, options: argparse.Namespace) -> Iterator[Load]:
    """Conversations with a name and the window that they need."""
    window = options.window
    grown = [
        conversations.growing(seed, window, NUM_NEW, NUM_ANSWER) for seed in range(options.rounds)
    ]
    yield f"{GROWING} {window} tokens", grown, window
    if options.data is None:
        console.print("no recorded conversations: name their folder by --data")
        return
    tokenizer = open_checkpoint(str(path)).tokenizer()
    longest = window - NUM_ANSWER
    for title, name in (("chats", conversations.CHAT), ("an agent", conversations.AGENT)):
        found = conversations.recorded(options.data, name, tokenizer, options.count, longest)
        yield f"{len(found)} recorded conversations of {title}", found, window


def _measure(
    model: ModelSpec, title: str, talks: list[conversations.Conversation], window: int
) -> list[Row]:
    """Runs all conversations through all ways."""
    first: dict[str, list[float]] = {}
    whole: dict[str, float] = {}
    num_tokens = sum(len(prompt) for talk in talks for prompt in talk.prompts)
    with TemporaryDirectory(prefix="artesian-bench-") as directory, ExitStack() as stack:
        path = model.find()
        assert path is not None
        kept = {"context_cache_dir": Path(directory) / "kv", "max_model_len": window}
        server = stack.enter_context(serving(str(path), **kept))
        ways = _our_ways(server)
        if binary := llama_server.find_binary():
            port = free_port()
            peer = stack.enter_context(
                llama_server.serving(binary, path, port, window, Path(directory))
            )
            ways |= _peer_ways(peer)
        else:
            console.print("llama.cpp's server is not installed: it is left out")
        for talk in talks:
            for way, turn in list(ways.items()):
                try:
                    times = [turn(prompt) for prompt in talk.prompts]
                except httpx.HTTPError as error:  # ours raises others
                    console.print(f"{way} gave up and is left out: {error}")
                    del ways[way]
                    first.pop(way, None)
                    whole.pop(way, None)
                    continue
                first.setdefault(way, []).extend(first_s for first_s, _ in times)
                whole[way] = whole.get(way, 0.0) + sum(whole_s for _, whole_s in times)
            console.print(f"{title}: a conversation of {len(talk.prompts)} turns is done")
    return _rows(title, first, whole, num_tokens)


def _our_ways(server: Server) -> dict[str, Turn]:
    return {
        COMPUTED: lambda prompt: server.turn_s(prompt, NUM_ANSWER, salt=str(time.time_ns())),
        ARTESIAN: lambda prompt: server.turn_s(prompt, NUM_ANSWER),
    }


def _peer_ways(peer: llama_server.LlamaServer) -> dict[str, Turn]:
    return {
        LLAMA: lambda prompt: peer.turn_s(prompt, NUM_ANSWER),
    }


def _rows(
    title: str, first: dict[str, list[float]], whole: dict[str, float], num_tokens: int
) -> list[Row]:
    sums = {way: sum(times) for way, times in first.items()}
    speeds = {way: num_tokens / seconds for way, seconds in sums.items()}
    medians = {way: statistics.median(times) * 1e3 for way, times in first.items()}
    lasts = {way: times[-1] * 1e3 for way, times in first.items()}

    def row(metric: str, values: dict[str, float], unit: str, **bound: object) -> Row:
        return Row(
            subject=title,
            metric=f"{title}: {metric}",
            value=values[ARTESIAN],
            unit=unit,
            baseline=COMPUTED,
            baseline_value=values[COMPUTED],
            values=values,
            **bound,  # type: ignore[arg-type]
        )

    is_long = title.startswith(GROWING)
    speedup, cost = (LEAST_SPEEDUP, MOST_COST) if is_long else (None, None)
    rows = [
        row("prompt tokens by time to first token", speeds, "tok/s", target=speedup),
        row("time of the session", whole, "s", better="less", target=cost),
        row("first token, median turn", medians, "ms", better="less"),
        row("first token, last turn", lasts, "ms", better="less"),
    ]
    if LLAMA in whole:
        rows.append(
            Row(
                subject=title,
                metric=f"{title}: time of the session, beside llama.cpp",
                value=whole[ARTESIAN],
                unit="s",
                baseline=LLAMA,
                baseline_value=whole[LLAMA],
                better="less",
                target=1.0,
                values=whole,
            )
        )
    return rows


if __name__ == "__main__":
    main()
