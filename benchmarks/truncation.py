"""What goes on behind the context window's end costs, in quality and in time.

    make bench-truncation
    make bench-truncation ARGS='--texts DIR --models smollm2 --passages 8'

Passages of public texts (*.txt, *.txt.xz in DIR, or in ARTESIAN_TEXTS) are read through a small
window that overflows several times, in each way of going on: what stays is computed again, has its
keys turned, or keeps them as they are. Perplexity is that of the tokens behind the first overflow,
the same ones for all. Then what turning takes, and the first token of a turn that overflows, in the
engine.
"""

import argparse
import lzma
import math
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

import report
from artesian import LLM, SamplingParams
from artesian.eval.perplexity import Perplexity, difference
from artesian.loader import Checkpoint, open_checkpoint
from artesian.ops.base import KvDtype
from engines import MODELS, ModelSpec
from machine import describe
from report import Row
from window_reader import BLOCK, Way, WindowReader

NUM_THREADS = 2
MOST_DIFFERENCE = 0.02  # the paper's bound
PARTS = ("quality", "layers", "drift", "times", "first-tokens")
WAYS: tuple[Way, ...] = ("computed", "turned", "coupled")
DTYPES: tuple[KvDtype, ...] = ("f32", "f16", "bf16", "int8")
console = report.make_console()
I32 = npt.NDArray[np.int32]


def quality(
    spec: ModelSpec, checkpoint: Checkpoint, texts: dict[str, str], options: argparse.Namespace
) -> Iterator[Row]:
    """Perplexity by way, with and without sinks."""
    reader = WindowReader(checkpoint, "f16", options.window, NUM_THREADS)
    passages = list(_passages(checkpoint, texts, options))
    for num_sinks in options.sinks:
        cuts = reader.cuts(num_sinks)
        results: dict[str, Perplexity] = {
            way: Perplexity(np.concatenate([reader.losses(p, way, cuts) for p in passages]))
            for way in WAYS
        }
        values = {way: result.value for way, result in results.items()}
        subject = f"{spec.title}, {'no sinks' if not num_sinks else f'{num_sinks} sink tokens'}"
        turned, computed = values["turned"], values["computed"]
        yield Row(
            subject=subject,
            metric=f"{subject}: perplexity",
            value=turned,
            unit="",
            better="less",
            values=values,
        )
        gain = difference(results["turned"], results["computed"])
        low = computed * math.exp(gain.mean_nats - gain.half_width_nats) - computed
        high = computed * math.exp(gain.mean_nats + gain.half_width_nats) - computed
        yield Row(
            subject=subject,
            metric=f"{subject}: turned above computed",
            value=turned - computed,
            unit="",
            baseline="bound",
            baseline_value=MOST_DIFFERENCE,
            better="less",
            target=1.0,
            values={"turned": turned - computed},
            spread={"turned": (low, high)},
        )


def layers(
    spec: ModelSpec, checkpoint: Checkpoint, texts: dict[str, str], options: argparse.Namespace
) -> Iterator[Row]:
    """How far turned KV is from computed KV, in the first layer and in the last."""
    reader = WindowReader(checkpoint, "f16", options.window, NUM_THREADS)
    cuts = reader.cuts(0)
    passage = next(_passages(checkpoint, texts, options))[: cuts.window_tokens]
    count = cuts.turned_blocks
    found: dict[Way, list[npt.NDArray[np.float64]]] = {}
    for way in ("turned", "computed"):
        reader.begin()
        reader.fill(passage)
        reader.overflow(passage, way, cuts)
        for layer in (0, reader.layout.num_layers - 1):
            found.setdefault(way, []).extend(reader.keys_and_values(layer, reader.table[:count]))
    names = [
        f"{layer} layer's {side}" for layer in ("first", "last") for side in ("keys", "values")
    ]
    for name, turned, computed in zip(names, found["turned"], found["computed"], strict=True):
        distance = _distance_ppm(turned, computed)
        yield Row(
            subject=spec.title,
            metric=f"{spec.title}: {name}, turned from computed",
            value=distance,
            unit="ppm",
            values={"turned": distance},
        )


def drift(spec: ModelSpec, checkpoint: Checkpoint, options: argparse.Namespace) -> Iterator[Row]:
    """What many small turns add to one large one: every turn rounds once."""
    blocks = list(range(options.window // BLOCK))
    for dtype in ("f32", "f16"):
        reader = WindowReader(checkpoint, dtype, options.window, NUM_THREADS)
        reader.begin()
        reader.fill(np.arange(1000, 1000 + options.window, dtype=np.int32))
        spare = [block + len(blocks) for block in blocks]
        for times in (4, 16, 64):
            reader.fill(np.arange(1000, 1000 + options.window, dtype=np.int32))
            reader.runner.turn(blocks, spare, -times * 512)
            once, _ = reader.keys_and_values(0, spare)
            for step in range(times):
                pair = (blocks, spare) if step % 2 == 0 else (spare, blocks)
                reader.runner.turn(*pair, -512)
            often, _ = reader.keys_and_values(0, spare if times % 2 else blocks)
            distance = _distance_ppm(often, once)
            yield Row(
                subject=spec.title,
                metric=f"{spec.title}: keys in {dtype} turned {times} times, from once",
                value=distance,
                unit="ppm",
                values={"turned": distance},
            )


def times(spec: ModelSpec, checkpoint: Checkpoint, options: argparse.Namespace) -> Iterator[Row]:
    """Time a block takes to be turned, and to be computed."""
    tokens = np.arange(1000, 1000 + options.window, dtype=np.int32)
    computed = 0.0
    for dtype in DTYPES:
        reader = WindowReader(checkpoint, dtype, options.window, NUM_THREADS)
        turned = reader.turn_us()
        computed = reader.compute_us(tokens) if dtype == "f16" or not computed else computed
        yield Row(
            subject=spec.title,
            metric=f"{spec.title}: a block of {BLOCK} tokens in {dtype}",
            value=turned,
            unit="µs",
            baseline="computed",
            baseline_value=computed,
            better="less",
            values={"turned": turned, "computed": computed},
        )


def first_tokens(spec: ModelSpec, path: Path, options: argparse.Namespace) -> Iterator[Row]:
    """The first token of turns around an overflow, by what is cached, in the engine."""
    found: dict[str, list[float]] = {}
    draw = np.random.default_rng(0)
    length = options.engine_window
    settings = {"max_model_len": length + BLOCK, "context_overflow": "truncate"}
    for _ in range(options.rounds):
        history = draw.integers(1000, 40_000, length - 50).tolist()
        turns = [draw.integers(1000, 40_000, 100).tolist() for _ in range(2)]
        with LLM(str(path), num_threads=NUM_THREADS, **settings) as llm:
            _first_token_ms(llm, history)
            over = _first_token_ms(llm, history + turns[0])
            behind = _first_token_ms(llm, history + turns[0] + turns[1])
        with LLM(str(path), num_threads=NUM_THREADS, **settings) as llm:
            _first_token_ms(llm, draw.integers(1000, 40_000, 200).tolist())
            computed = _first_token_ms(llm, history + turns[0])
        for name, value in (("over", over), ("behind", behind), ("computed", computed)):
            found.setdefault(name, []).append(value)
    medians = {name: statistics.median(values) for name, values in found.items()}
    for name, what in (("over", "that overflows"), ("behind", "after that")):
        yield Row(
            subject=spec.title,
            metric=f"{spec.title}: first token of a turn {what}",
            value=medians[name],
            unit="ms",
            baseline="computed",
            baseline_value=medians["computed"],
            better="less",
            values={"turned": medians[name], "computed": medians["computed"]},
            spread={"turned": (min(found[name]), max(found[name]))},
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    texts = os.environ.get("ARTESIAN_TEXTS")
    parser.add_argument("--texts", type=Path, default=texts, help="folder of *.txt or *.txt.xz")
    parser.add_argument("--models", nargs="+", default=[model.name for model in MODELS])
    parser.add_argument("--window", type=int, default=1024, help="tokens, for perplexity")
    parser.add_argument("--length", type=int, default=4096, help="tokens of a passage")
    parser.add_argument("--passages", type=int, default=3, help="of each text")
    parser.add_argument("--sinks", nargs="+", type=int, default=[0, 32, 128], help="tokens")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--engine-window", type=int, default=4096, help="tokens, for first tokens")
    parser.add_argument("--rounds", type=int, default=3, help="of first tokens")
    options = parser.parse_args()
    if options.texts is None:
        parser.error("name the folder of the texts: --texts DIR, or ARTESIAN_TEXTS")
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    rows: list[Row] = []
    for model in MODELS:
        path = model.find() if model.name in options.models else None
        if path is None:
            continue
        checkpoint = open_checkpoint(str(path))
        found = _read(Path(options.texts))
        parts = {
            "quality": quality(model, checkpoint, found, options),
            "layers": layers(model, checkpoint, found, options),
            "drift": drift(model, checkpoint, options),
            "times": times(model, checkpoint, options),
            "first-tokens": first_tokens(model, path, options),
        }
        for name in options.parts:
            some = list(parts[name])
            report.print_table(model.title, some, list(WAYS), console)
            rows += some
    chosen = {name: getattr(options, name) for name in ("window", "length", "passages", "rounds")}
    console.print(f"written to {report.write('truncation', rows, machine, dict(chosen))}")


def _passages(
    checkpoint: Checkpoint, texts: dict[str, str], options: argparse.Namespace
) -> Iterator[I32]:
    """Token ids of passages spread over the texts, each behind what begins a text."""
    tokenizer = checkpoint.tokenizer()
    begins = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    for text in texts.values():
        for number in range(options.passages):
            start = len(text) * (number + 1) // (options.passages + 2)
            part = text[start : start + 8 * options.length]
            tokens = begins + tokenizer.encode(part, add_special_tokens=False)
            yield np.array(tokens[: options.length], np.int32)


def _read(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted([*folder.glob("*.txt"), *folder.glob("*.txt.xz")]):
        data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        found[path.name] = data.decode("utf-8", errors="replace")
    if not found:
        raise SystemExit(f"{folder} has no *.txt or *.txt.xz")
    return found


def _first_token_ms(llm: LLM, prompt: list[int]) -> float:
    [result] = llm.generate([prompt], SamplingParams(temperature=0, max_tokens=1))
    assert result.metrics.ttft_ms is not None
    return result.metrics.ttft_ms


def _distance_ppm(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Root mean square of the difference, in millionths of that of the second."""
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2))) * 1e6


if __name__ == "__main__":
    main()
