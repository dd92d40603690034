"""Decoding behind a long prompt beside llama.cpp's server and OpenVINO GenAI."""

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

import llama_server
from cases import NUM_THREADS
from engines import BENCH, ModelSpec, engine_specs, missing_part
from multiturn import free_port
from peers.client import EngineFailed, EngineProcess, EngineSpec
from report import Row, best

OURS = "progressive"
DENSE = "dense"
LLAMA, OPENVINO = "llama.cpp", "OpenVINO"
NUM_TOKENS = 64
SLACK_TOKENS = 128
TARGET = 5.0
LOG = BENCH / "sparse.log"

Decode = Callable[[list[int]], float]
"""A prompt to the tokens a second that are decoded behind it."""


def peer_rows(
    model: ModelSpec, path: Path, prompts: Sequence[list[int]], say: Callable[[str], None]
) -> list[Row]:
    """One row: everybody's tokens a second behind prompts of one length, a round each."""
    found: dict[str, list[float]] = {}
    length = len(prompts[0])
    with ExitStack() as stack:
        engines = _start(stack, model, path, length, say)
        for number, prompt in enumerate(prompts):
            for name, decode in list(engines.items()):
                try:
                    rate = decode(prompt)
                except (EngineFailed, httpx.HTTPError) as error:
                    say(f"{name} gave up: {error}")
                    del engines[name]
                    continue
                found.setdefault(name, []).append(rate)
            say(f"beside others: round {number + 1} of {len(prompts)}")
    values = {name: statistics.median(rates) for name, rates in found.items()}
    theirs = {name: values[name] for name in (LLAMA, OPENVINO) if name in values}
    baseline = best(theirs, "more")
    return [
        Row(
            subject=f"{model.name}, {length:,} tokens",
            metric="decode, batch 1",
            value=values.get(OURS),
            unit="tokens/s",
            baseline=baseline,
            baseline_value=None if baseline is None else theirs[baseline],
            target=TARGET,
            values=values,
            spread={name: (min(rates), max(rates)) for name, rates in found.items()},
        )
    ]


def _start(
    stack: ExitStack, model: ModelSpec, path: Path, length: int, say: Callable[[str], None]
) -> dict[str, Decode]:
    """Everybody who is installed."""
    engines: dict[str, Decode] = {}
    room = length + SLACK_TOKENS + NUM_TOKENS
    specs = engine_specs(model, path)
    ours, openvino = specs[0], specs[-1]
    sparse = EngineSpec(OURS, "artesian_sparse", ours.python, ours.model)
    wanted = ((DENSE, ours), (OURS, sparse), (OPENVINO, openvino))
    for name, spec in wanted:
        missing = missing_part(spec)
        if missing is not None:
            say(f"without {name}: {missing}")
            continue
        engine = EngineProcess(spec, LOG)
        stack.callback(engine.close)
        try:
            engine.call("load", str(spec.model), NUM_THREADS, 1, room)
        except EngineFailed as error:
            say(f"without {name}: {error}")
            continue
        engines[name] = _decoding(engine)
    binary = llama_server.find_binary()
    if binary is None:
        say(f"without {LLAMA}: name its server by {llama_server.BINARY_VARIABLE}")
        return engines
    folder = stack.enter_context(TemporaryDirectory(prefix="artesian-bench-"))
    server = stack.enter_context(
        llama_server.serving(binary, path, free_port(), room, Path(folder))
    )

    def decode(prompt: list[int]) -> float:
        first_s, last_s = server.turn_s(prompt, NUM_TOKENS + 1, reuse=False)
        return NUM_TOKENS / (last_s - first_s)

    engines[LLAMA] = decode
    return engines


def _decoding(engine: EngineProcess) -> Decode:
    def decode(prompt: list[int]) -> float:
        times = engine.call("decode", [prompt], NUM_TOKENS)
        return float(times["num_tokens"] / times["decode_s"])

    return decode
