"""Native kernels against this machine's limits: linears of every weight format, attention.

    make bench-kernels     ARGS='--formats Q4_1 Q8_0 --rows 1 512' narrows it

Linears are timed as a chain of distinct ones with as many bytes as a small model, attention over
as many layers: weights and KV lie where they lie in a model, not in the nearest cache. A figure is
the best of several runs: what the kernel does when nobody disturbs it.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

import report
from artesian import _core
from artesian.ops.base import AttentionSpec, KvLayout, Rope
from artesian.ops.native import Isa, RecordingOps, default_kv_dtype, native_layout
from limits import Limits, measure
from machine import describe
from report import Row

NUM_THREADS = 2
NUM_RUNS = 7
WIDTH, INNER = 768, 1536
CHAIN_BYTES = 100 << 20
BLOCK_SIZE = 32
# Bytes of a block, its values, and where its float16 scales lie.
FORMATS: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "Q4_0": (18, 32, (0,)),
    "Q4_1": (20, 32, (0, 2)),
    "Q5_0": (22, 32, (0,)),
    "Q8_0": (34, 32, (0,)),
    "Q4_K": (144, 256, (0, 2)),
    "Q5_K": (176, 256, (0, 2)),
    "Q6_K": (210, 256, (208,)),
    "BF16": (2, 1, ()),
    "F32": (4, 1, ()),
}
# SmolLM2-135M's attention.
HEADS, KV_HEADS, HEAD_DIM, LAYERS = 9, 3, 64, 30


@dataclass(frozen=True, slots=True)
class Batch:
    """`num_rows` new tokens of each of `num_seqs` sequences that then have `context` tokens."""

    num_seqs: int
    num_rows: int
    context: int


@dataclass(frozen=True, slots=True)
class Timed:
    """What a kernel did in its best run.

    Attributes:
        num_bytes: weights or KV that it had to read.
        macs: multiply-adds, in INT8 where `is_int8`, else in 16 or 32 bits.
    """

    metric: str
    seconds: float
    num_bytes: int
    macs: int
    is_int8: bool

    def row(self, limits: Limits) -> Row:
        """In the unit of the limit that binds it."""
        gmacs = limits.int8_gmacs if self.is_int8 else max(limits.bf16_gmacs, limits.fp32_gmacs)
        read_s = self.num_bytes / limits.read_bytes_per_s(CHAIN_BYTES)
        compute_s = self.macs / gmacs / 1e9
        reads = read_s >= compute_s
        value = (self.num_bytes if reads else self.macs) / self.seconds / 1e9
        return Row(
            subject="kernels",
            metric=f"{self.metric} ({self.seconds * 1e3:.2f} ms)",
            value=value,
            unit="GB/s" if reads else "Gmac/s",
            values={"ours": value},
            share=max(read_s, compute_s) / self.seconds,
            limit="bandwidth" if reads else "peak",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 8, 16, 512])
    parser.add_argument("--isa", choices=_core.available_isas(), help="default: the best")
    options = parser.parse_args()
    machine = describe()
    console = report.make_console()
    limits = measure(NUM_THREADS, [CHAIN_BYTES])
    runtime = _core.Runtime(NUM_THREADS, options.isa)
    console.print(f"{machine.cpu}, load {machine.load_average}, {runtime.isa} kernels")
    timed = [t for name in options.formats for t in time_linears(runtime, name, options.rows)]
    timed += time_attention(runtime)
    limits = limits.best_with(measure(NUM_THREADS, [CHAIN_BYTES]))
    rows = [one.row(limits) for one in timed]
    report.print_table(f"best of {NUM_RUNS}, {NUM_THREADS} threads", rows, ["ours"], console)
    console.print(limits.describe())
    extra: dict[str, object] = {"isa": runtime.isa, "limits": limits.as_dict()}
    console.print(f"written to {report.write('kernels', rows, machine, extra)}")


def time_linears(runtime: _core.Runtime, name: str, row_counts: list[int]) -> list[Timed]:
    """One chain of linears of one format, for each number of activation rows."""
    block_bytes, block_values, _ = FORMATS[name]
    pair_bytes = 2 * WIDTH * INNER * block_bytes // block_values
    num_pairs = max(1, CHAIN_BYTES // pair_bytes)
    rng = np.random.default_rng(7)
    ops = RecordingOps()
    x = ops.embed(table(runtime, WIDTH))
    for _ in range(num_pairs):
        for shape in ((INNER, WIDTH), (WIDTH, INNER)):
            weight = _core.Weight(runtime, random_blocks(rng, name, shape), name, *shape)
            x = ops.linear(x, [weight])
    layout = KvLayout(1, 1, 64, BLOCK_SIZE, "f32")
    run = runner(runtime, ops, ops.logit_rows(x), layout, max(row_counts))
    return [
        Timed(
            f"linear {name}, {num_rows} rows",
            run(Batch(1, num_rows, num_rows)),
            num_pairs * pair_bytes,
            num_pairs * 2 * WIDTH * INNER * num_rows,
            is_int8=name.startswith("Q"),
        )
        for num_rows in row_counts
    ]


def time_attention(runtime: _core.Runtime) -> list[Timed]:
    """Decode and prefill attention at SmolLM2's shape, over all its layers."""
    dtype = default_kv_dtype(cast(Isa, runtime.isa))
    layout = KvLayout(LAYERS, KV_HEADS, HEAD_DIM, BLOCK_SIZE, dtype)
    rope = Rope(np.full(HEAD_DIM // 2, 0.01, np.float32), interleaved=True)
    ops = RecordingOps()
    qkv = ops.embed(table(runtime, (HEADS + 2 * KV_HEADS) * HEAD_DIM))
    total = None
    for layer in range(LAYERS):
        spec = AttentionSpec(layer, HEADS, KV_HEADS, HEAD_DIM, HEAD_DIM**-0.5, rope)
        mixed = ops.attention(qkv, spec)
        total = mixed if total is None else ops.add(total, mixed)
    assert total is not None
    run = runner(runtime, ops, ops.logit_rows(total), layout, 512)
    token_bytes = 2 * KV_HEADS * HEAD_DIM * 2 * LAYERS
    timed = []
    for batch in (Batch(1, 1, 4000), Batch(16, 1, 1000), Batch(1, 512, 512), Batch(1, 512, 4000)):
        pairs = batch.num_seqs * batch.num_rows * (2 * batch.context - batch.num_rows + 1) // 2
        timed.append(
            Timed(
                f"attention, {batch.num_seqs} x {batch.num_rows} at {batch.context:,}",
                run(batch),
                batch.num_seqs * batch.context * token_bytes,
                2 * LAYERS * HEADS * HEAD_DIM * pairs,
                is_int8=False,
            )
        )
    return timed


def runner(
    runtime: _core.Runtime, ops: RecordingOps, output: int, layout: KvLayout, max_rows: int
) -> Callable[[Batch], float]:
    """A function that gives the least seconds of one pass over a batch."""
    native = native_layout(layout)
    program = ops.builder.build(runtime, output, native, max_rows)

    def run(batch: Batch) -> float:
        num_blocks = -(-batch.context // BLOCK_SIZE)
        arena = aligned_bytes(batch.num_seqs * num_blocks * native.block_bytes)
        blocks = np.arange(batch.num_seqs * num_blocks, dtype=np.int32)[None]
        blocks = blocks.reshape(batch.num_seqs, num_blocks)
        num_rows = batch.num_seqs * batch.num_rows
        first = batch.context - batch.num_rows
        positions = np.tile(np.arange(first, batch.context, dtype=np.int32), batch.num_seqs)
        starts = np.arange(0, num_rows + 1, batch.num_rows, dtype=np.int32)
        lens = np.full(batch.num_seqs, batch.context, np.int32)
        tokens = np.arange(num_rows, dtype=np.int32) % 16
        last = np.array([num_rows - 1], np.int32)
        out = np.empty((1, program.output_width), np.float32)
        best = float("inf")
        for _ in range(NUM_RUNS):
            start = time.perf_counter()
            program.run(runtime, tokens, positions, starts, lens, blocks, last, arena, out)
            best = min(best, time.perf_counter() - start)
        if not np.isfinite(out).all():
            raise RuntimeError("a kernel returned a value that is not finite")
        return best

    return run


def table(runtime: _core.Runtime, width: int) -> _core.Weight:
    """Sixteen rows of plain floats to begin from."""
    values = np.random.default_rng(3).standard_normal((16, width), dtype=np.float32)
    return _core.Weight(runtime, values.view(np.uint8).reshape(-1), "F32", 16, width)


def random_blocks(
    rng: np.random.Generator, name: str, shape: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """A weight of random values that neither swells nor shrinks what goes through it."""
    rows, cols = shape
    if name in ("F32", "BF16"):
        values = rng.standard_normal(rows * cols, dtype=np.float32) / np.float32(cols**0.5)
        words = values.view(np.uint32)
        return words.view(np.uint8) if name == "F32" else (words >> 16).astype("<u2").view(np.uint8)
    block_bytes, block_values, scales = FORMATS[name]
    num_blocks = rows * cols // block_values
    blocks = rng.integers(0, 256, (num_blocks, block_bytes), dtype=np.uint8)
    signs = rng.choice(np.array([-1.0, 1.0]), (num_blocks, len(scales)))
    size = 0.01
    for _ in range(2):  # the second time with the size that the first one's values ask for
        for column, offset in enumerate(scales):
            field = (signs[:, column] * size).astype("<f2")
            blocks[:, offset : offset + 2] = field.view(np.uint8).reshape(-1, 2)
        values = _core.dequantize(blocks.reshape(-1), name, rows, cols).reshape(-1)
        size /= float(values.std()) * cols**0.5
    return blocks.reshape(-1)


def aligned_bytes(num_bytes: int) -> npt.NDArray[np.uint8]:
    """Memory that begins at a multiple of 64, written so that every page is really there."""
    room = np.full(num_bytes + 64, 0x3C, np.uint8)  # a small positive number in every KV dtype
    skip = -room.ctypes.data % 64
    return room[skip : skip + num_bytes]


if __name__ == "__main__":
    main()
