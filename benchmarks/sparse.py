"""What attending to less of a long context saves, and what it costs.

    make bench-sparse          ARGS='--models smollm2 --lengths 8000 --parts cells' narrows it

Each context is read once, densely, and everything goes on from its KV: tokens of the text one by
one (perplexity behind the context, divergence from dense), questions with known answers, and steps
that are timed. Selectors have several values of their knob each, so that they can be compared where
they keep as much of the attention weight, and where they are as close to dense. Sequences of a
batch have KV of their own, with the same content. Texts are *.txt or *.txt.xz in --texts or
ARTESIAN_TEXTS, else the reference of the Python language.
"""

import argparse
import lzma
import os
from pathlib import Path

import report
from artesian.eval.score import Reading
from artesian.eval.session import Room, Session
from artesian.eval.texts import passages, sentences, standard_text
from artesian.eval.ways import label
from artesian.loader import Checkpoint, open_checkpoint
from cases import NUM_THREADS
from engines import MODELS, ModelSpec
from limits import Limits, measure
from machine import describe
from report import Row
from sparse_both import COLUMNS as BOTH_COLUMNS
from sparse_both import both_rows, choose
from sparse_cells import Effort, measure_cell
from sparse_peers import peer_rows
from sparse_rows import COLUMNS, cell_rows
from work import read_work

LENGTHS = {"smollm2": [2000, 4000, 7900], "gemma3-270m": [8000, 16000, 32000]}
TARGET_LENGTH = {"smollm2": 7900}
PEER_MODEL, PEER_LENGTH = "smollm2", 7000
QUESTION_TOKENS = 128
SHORT = 4000
# Ways of the sweep, and what they are matched with.
NUM_FORKS = 32
PEERS = ["dense", "progressive", "llama.cpp", "OpenVINO"]
console = report.make_console()


def main() -> None:
    options = _options()
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    text = read_texts(options.texts)
    rows: list[Row] = []
    limits = None
    for model in MODELS:
        path = model.find() if model.name in options.models else None
        if path is None:
            continue
        checkpoint = open_checkpoint(str(path))
        if "cells" in options.parts:
            limits = _measure_limits(path, LENGTHS[model.name], options.batches)
            rows += measure_model(model, path, checkpoint, text, limits, options)
        if "peers" in options.parts and model.name == PEER_MODEL:
            tokens, prefix = tokenize(checkpoint, text)
            prompts = passages(tokens, prefix, PEER_LENGTH, options.rounds)
            found = peer_rows(model, path, prompts, console.print)
            report.print_table(f"{model.title}, beside others", found, PEERS, console)
            rows += found
    extra = {
        name: getattr(options, name)
        for name in ("epsilon", "late", "passages", "samples", "rounds")
    }
    if limits is not None:
        extra["limits"] = limits.as_dict()
    console.print(f"written to {report.write('sparse', rows, machine, extra)}")


def measure_model(
    model: ModelSpec,
    path: Path,
    checkpoint: Checkpoint,
    text: str,
    limits: Limits,
    options: argparse.Namespace,
) -> list[Row]:
    """All lengths of a model, over one arena."""
    lengths = options.lengths or LENGTHS[model.name]
    tail = max(options.late + 1, QUESTION_TOKENS)
    longest = checkpoint.config.max_model_len - tail
    lengths = sorted({min(length, longest) for length in lengths})
    room = Room(lengths[-1], NUM_FORKS, tail, num_copies=max(options.batches))
    session = Session(checkpoint, room, num_threads=NUM_THREADS)
    tokens, prefix = tokenize(checkpoint, text)
    tokenizer = checkpoint.tokenizer()
    work = read_work(path)
    rows: list[Row] = []
    for length in lengths:
        effort = Effort(
            main=label("progressive", options.epsilon),
            num_late=options.late,
            num_passages=options.passages if length <= SHORT else 1,
            num_rounds=options.rounds,
            num_samples=options.samples,
            tasks=options.tasks if length <= options.task_length else (),
            batches=options.batches,
        )
        read = passages(tokens, prefix, length + options.late + 1, effort.num_passages)
        reading = Reading(
            length,
            lambda words: tokenizer.encode(words, add_special_tokens=False),
            prefix,
            sentences(text),
        )
        cell = measure_cell(session, length, read, reading, effort)
        is_target = length == min(TARGET_LENGTH.get(model.name, 0), longest)
        found = cell_rows(model.name, cell, work, limits, is_target)
        matched = ", ".join(way.name for way in cell.matched.values())
        title = f"{model.title}, {length:,} tokens; {matched or 'nobody'} keeps as much weight"
        report.print_table(title, found, COLUMNS, console)
        rows += found
        if options.skip is not None:
            skip = choose(options.skip, checkpoint, options.num_skipped)
            found = both_rows(model.name, session, read, skip, effort)
            report.print_table(f"{model.title}, with skipping", found, BOTH_COLUMNS, console)
            rows += found
    return rows


def tokenize(checkpoint: Checkpoint, text: str) -> tuple[list[int], list[int]]:
    """The text's tokens, and what begins a text."""
    tokenizer = checkpoint.tokenizer()
    whole = tokenizer.encode(text)
    plain = tokenizer.encode(text, add_special_tokens=False)
    return plain, whole[: len(whole) - len(plain)]


def read_texts(folder: Path | None) -> str:
    """All texts of a folder, one behind the other."""
    if folder is None:
        return standard_text()
    parts = []
    for path in sorted([*folder.glob("*.txt"), *folder.glob("*.txt.xz")]):
        data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        parts.append(data.decode("utf-8", errors="replace"))
    if not parts:
        raise SystemExit(f"{folder} has no *.txt or *.txt.xz")
    return "\n\n".join(parts)


def _measure_limits(path: Path, lengths: list[int], batches: list[int]) -> Limits:
    """Reading as much as the KV of each cell."""
    work = read_work(path)
    sizes = {
        work.decode_bytes(length, batch) - work.weight_bytes
        for length in lengths
        for batch in batches
    }
    return measure(NUM_THREADS, sorted(sizes))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [model.name for model in MODELS]
    folder = os.environ.get("ARTESIAN_TEXTS")
    texts = Path(folder) if folder else None
    parser.add_argument("--texts", type=Path, default=texts, help="folder of *.txt or *.txt.xz")
    parser.add_argument("--models", nargs="+", default=names, choices=names)
    parser.add_argument("--lengths", nargs="+", type=int, help="of contexts, tokens")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 8])
    parser.add_argument("--epsilon", type=float, default=0.95, help="of progressive attention")
    parser.add_argument("--late", type=int, default=256, help="tokens predicted behind a context")
    parser.add_argument(
        "--passages", type=int, default=2, help=f"of the text, up to {SHORT:,} tokens"
    )
    parser.add_argument("--tasks", nargs="*", default=["passkey", "needles-2", "key-value"])
    parser.add_argument("--samples", type=int, default=6, help="of each task")
    parser.add_argument("--rounds", type=int, default=3, help="of what is timed")
    parser.add_argument("--task-length", type=int, default=8000, help="longest context of tasks")
    parser.add_argument("--skip", type=Path, help="file of artesian calibrate; needs one model")
    parser.add_argument("--num-skipped", type=int, default=8, help="sublayers")
    parser.add_argument("--parts", nargs="+", default=["cells", "peers"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
