"""Attention alone by the number format of its keys and values, at the shapes of the demo models.

    make bench-kv-formats
    make bench-kv-formats ARGS='--formats f16 bf16 --rounds 15'

All layers of a model attend one after the other, so that KV lies where it lies in a model. Formats
take turns in every round, a figure is the median of the rounds, and each format is compared with
the first.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import report
from artesian import _core
from artesian.ops.base import AttentionSpec, KvDtype, KvLayout, Rope
from artesian.ops.native import RecordingOps, native_layout
from kernels import BLOCK_SIZE, NUM_THREADS, Batch, aligned_bytes, table
from machine import describe
from report import Row

FORMATS: tuple[KvDtype, ...] = ("f16", "bf16", "f32", "int8")


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's attention; layers whose number is a multiple of `whole_every` see everything."""

    name: str
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    window: int | None = None
    whole_every: int = 1

    def window_of(self, layer: int) -> int | None:
        """Of one layer."""
        return None if layer % self.whole_every == 0 else self.window


SHAPES = (
    Shape("SmolLM2", 30, 9, 3, 64),
    Shape("Gemma 3", 18, 4, 1, 256),
    Shape("Gemma 3, windows of 512", 18, 4, 1, 256, window=512, whole_every=6),
)
BATCHES = (
    Batch(1, 1, 4_000),
    Batch(8, 1, 4_000),
    Batch(1, 100, 4_100),
    Batch(1, 512, 512),
    Batch(1, 512, 4_000),
)
# Parts of the first format's time: of a turn behind a long history, and of decoding.
TARGETS = {("bf16", BATCHES[2]): 0.625, ("bf16", BATCHES[0]): 1.0, ("bf16", BATCHES[1]): 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--formats", nargs="+", default=["f16", "bf16"], choices=FORMATS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=NUM_THREADS)
    parser.add_argument("--isa", choices=_core.available_isas(), help="default: the best")
    options = parser.parse_args()
    machine = describe()
    console = report.make_console()
    runtime = _core.Runtime(options.threads, options.isa)
    console.print(f"{machine.cpu}, load {machine.load_average}, {runtime.isa} kernels")
    rows: list[Row] = []
    for shape in SHAPES:
        title = f"{shape.name}: medians of {options.rounds} rounds, {options.threads} threads"
        found: list[Row] = []
        for batch in BATCHES:
            found += measure(runtime, shape, batch, options.formats, options.rounds)
        report.print_table(title, found, options.formats, console)
        rows += found
    extra: dict[str, object] = {"isa": runtime.isa, "rounds": options.rounds}
    console.print(f"written to {report.write('kv_formats', rows, machine, extra)}")


def measure(
    runtime: _core.Runtime, shape: Shape, batch: Batch, formats: list[KvDtype], rounds: int
) -> list[Row]:
    """One row: a batch of a shape in all formats."""
    passes = {name: attention(runtime, shape, batch, name) for name in formats}
    found: dict[str, list[float]] = {name: [] for name in formats}
    for number in range(rounds + 1):
        for name, run in passes.items():
            started = time.perf_counter()
            run()
            if number > 0:  # the first one warms up
                found[name].append((time.perf_counter() - started) * 1e3)
    values = {name: statistics.median(times) for name, times in found.items()}
    first = formats[0]
    return [
        Row(
            subject=shape.name,
            metric=f"{batch.num_seqs} x {batch.num_rows} rows at {batch.context:,}, {name}",
            value=values[name],
            unit="ms",
            baseline=first,
            baseline_value=values[first],
            better="less",
            target=TARGETS.get((name, batch)),
            values=values,
            spread={name: (min(found[name]), max(found[name]))},
        )
        for name in formats[1:] or formats
    ]


def attention(
    runtime: _core.Runtime, shape: Shape, batch: Batch, dtype: KvDtype
) -> Callable[[], None]:
    """A function that runs the batch through the attention of all layers."""
    head_dim = shape.head_dim
    layout = KvLayout(shape.num_layers, shape.num_kv_heads, head_dim, BLOCK_SIZE, dtype)
    rope = Rope(np.full(head_dim // 2, 0.01, np.float32), interleaved=True)
    ops = RecordingOps()
    qkv = ops.embed(table(runtime, (shape.num_heads + 2 * shape.num_kv_heads) * head_dim))
    total = None
    for layer in range(shape.num_layers):
        spec = AttentionSpec(
            layer,
            shape.num_heads,
            shape.num_kv_heads,
            head_dim,
            head_dim**-0.5,
            rope,
            window=shape.window_of(layer),
        )
        mixed = ops.attention(qkv, spec)
        total = mixed if total is None else ops.add(total, mixed)
    assert total is not None
    native = native_layout(layout)
    num_rows = batch.num_seqs * batch.num_rows
    program = ops.builder.build(runtime, ops.logit_rows(total), native, num_rows)
    num_blocks = -(-batch.context // BLOCK_SIZE)
    arena = aligned_bytes(batch.num_seqs * num_blocks * native.block_bytes)
    blocks = np.arange(batch.num_seqs * num_blocks, dtype=np.int32)
    positions = np.arange(batch.context - batch.num_rows, batch.context, dtype=np.int32)
    out = np.empty((1, program.output_width), np.float32)
    arguments = (
        np.arange(num_rows, dtype=np.int32) % 16,
        np.tile(positions, batch.num_seqs),
        np.arange(0, num_rows + 1, batch.num_rows, dtype=np.int32),
        np.full(batch.num_seqs, batch.context, np.int32),
        blocks.reshape(batch.num_seqs, num_blocks),
        np.array([num_rows - 1], np.int32),
        arena,
        out,
    )

    def run() -> None:
        program.run(runtime, *arguments)
        if not np.isfinite(out).all():
            raise RuntimeError("attention returned a value that is not finite")

    return run


if __name__ == "__main__":
    main()
