"""What it costs to compute a prompt for another worker.

    make bench-handover
    make bench-handover ARGS='--models smollm2 --rounds 5'

The kernels alone, without engine and front: prompts are computed in chunks, in private memory and
in a region of shared memory, with and without their keys and values written to a peer's region
while they are computed. Rates are by the processor time of one thread, which other processes do not
change much. The peer is another process; it looks at its memory often when the end is near, so that
the delay from the last layer's end to its seeing it is measured. It decodes the next token there,
and the logits must be those of the worker that computed, bit for bit. Ways take turns.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt

import report
from artesian.engine.batch import Batch
from artesian.engine.handover import LandingTicket
from artesian.kvcache import Arena, RegionArena
from artesian.kvcache.landing import PeerArenas, RegionPad, RegionWriter
from artesian.loader import Checkpoint, open_checkpoint
from artesian.loader.native import NativeRunner
from artesian.ops.base import F32, KvLayout
from artesian.ops.native import default_kv_dtype, kv_block_bytes
from engines import MODELS
from machine import describe
from report import Row

BLOCK = 32
NUM_THREADS = 1
NUM_DECODED = 8
MOST_LOSS = 0.97
console = report.make_console()
I32 = npt.NDArray[np.int32]


class Side:
    """A model over an arena whose first blocks hold the prompt."""

    def __init__(
        self, checkpoint: Checkpoint, layout: KvLayout, memory: npt.NDArray[np.uint8], chunk: int
    ) -> None:
        self.runner = NativeRunner(
            checkpoint, layout, memory, max_rows=chunk, num_threads=NUM_THREADS
        )
        self._chunk = chunk
        self._num_layers = layout.num_layers

    def prefill(self, tokens: I32, writer: RegionWriter | None = None) -> None:
        """Computes all tokens."""
        for first in range(0, len(tokens), self._chunk):
            self._run(tokens[first : first + self._chunk], first, writer)

    def num_sections(self, num_tokens: int) -> int:
        """Of writing, one a layer of each chunk."""
        return -(-num_tokens // self._chunk) * self._num_layers

    def decode(self, token: int, position: int) -> F32:
        """Logits behind one token."""
        return self._run(np.array([token], np.int32), position, None)

    def _run(self, tokens: I32, first: int, writer: RegionWriter | None) -> F32:
        rows = np.arange(len(tokens), dtype=np.int32)
        end = first + len(tokens)
        return self.runner.forward(
            Batch(
                tokens=tokens,
                positions=first + rows,
                row_starts=np.array([0, len(tokens)], np.int32),
                context_lens=np.array([end], np.int32),
                block_tables=np.arange(-(-end // BLOCK), dtype=np.int32)[None],
                logit_rows=rows[-1:],
                pushes=[] if writer is None else [(0, writer)],
            )
        )


def layout_of(checkpoint: Checkpoint) -> KvLayout:
    """The model's KV as this machine's kernels like it."""
    config = checkpoint.config
    shape = (config.num_layers, config.num_kv_heads, config.head_dim)
    return KvLayout(*shape, BLOCK, default_kv_dtype(None))


def be_peer(name: str, path: str, num_tokens: int, pipe: Connection) -> None:
    """The worker that wants prompts: opens a landing when told, and tells when it is complete."""
    checkpoint = open_checkpoint(path)
    layout = layout_of(checkpoint)
    num_blocks = -(-(num_tokens + 1) // BLOCK)
    arena = RegionArena(
        name, num_blocks, kv_block_bytes(layout), layout.num_layers, fingerprint=str(layout)
    )
    pad = RegionPad(arena)
    side = Side(checkpoint, layout, arena.memory, 64)
    pipe.send("ready")
    while (wish := pipe.recv()) is not None:
        if wish[0] == "decode":
            pipe.send(side.decode(*wish[1:]))
            continue
        opened = pad.open()
        assert opened is not None
        pipe.send(opened)
        num_sections = wish[1]
        while not pad.is_quiet(opened[0]):
            # Close to the end it looks often; before, it takes no time from who computes.
            is_close = pad.progress(opened[0])[0] >= num_sections - 1
            time.sleep(20e-6 if is_close else 2e-3)
        now = time.monotonic()
        pipe.send((pad.is_complete(opened[0]), now))
        pad.release(opened[0])
    arena.close()


def hand_over(
    side: Side, peers: PeerArenas, name: str, tokens: I32, pipe: Connection
) -> tuple[float, float, int]:
    """Seconds of the processor for a pushed prefill, seconds until the peer saw it complete,
    and bytes written."""
    pipe.send(("land", side.num_sections(len(tokens))))
    slot, generation = pipe.recv()
    blocks = list(range(-(-len(tokens) // BLOCK)))
    writer = peers.open_writer(
        LandingTicket(region=name, slot=slot, generation=generation, first_block=0, blocks=blocks)
    )
    seconds = timed(lambda: side.prefill(tokens, writer))
    ended = time.monotonic()
    writer.complete()
    is_complete, seen = pipe.recv()
    assert is_complete, "the peer has not got all"
    return seconds, seen - ended, writer.num_bytes


def timed(action: Callable[[], object]) -> float:
    """Seconds of the processor."""
    started = time.process_time()
    action()
    return time.process_time() - started


class Bench:
    """One model here and at the peer."""

    def __init__(self, path: str, options: argparse.Namespace) -> None:
        checkpoint = open_checkpoint(path)
        layout = layout_of(checkpoint)
        block_bytes = kv_block_bytes(layout)
        num_blocks = -(-(options.tokens + NUM_DECODED) // BLOCK)
        rng = np.random.default_rng(5)
        vocab_size = checkpoint.config.vocab_size
        self.tokens = rng.integers(3, vocab_size, options.tokens, dtype=np.int32)
        name = f"bench-{os.getpid()}"
        self._far = f"{name}-far"
        self._shared = RegionArena(
            f"{name}-near", num_blocks, block_bytes, layout.num_layers, fingerprint=str(layout)
        )
        private = Arena(num_blocks, block_bytes).memory
        memories = {"private": private, "region": self._shared.memory}
        self.sides = {k: Side(checkpoint, layout, m, options.chunk) for k, m in memories.items()}
        self._peers = PeerArenas(private, layout, str(layout), NUM_THREADS)
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        arguments = (self._far, path, options.tokens, far)
        self._process = context.Process(target=be_peer, args=arguments)
        self._process.start()
        assert self.pipe.recv() == "ready"

    def hand_over(self) -> tuple[float, float, int]:
        """See `hand_over`."""
        return hand_over(self.sides["private"], self._peers, self._far, self.tokens, self.pipe)

    def check(self) -> None:
        """The peer decodes as this process does."""
        token, position = int(self.tokens[0]), len(self.tokens)
        self.pipe.send(("decode", token, position))
        here = self.sides["private"].decode(token, position)
        assert self.pipe.recv().tobytes() == here.tobytes(), "other logits at the peer"

    def close(self) -> None:
        """Ends the peer."""
        self.pipe.send(None)
        self._process.join(30)
        self._shared.close()


def rows_of(title: str, path: str, options: argparse.Namespace) -> list[Row]:
    """All figures of one model."""
    bench = Bench(path, options)
    num_tokens = options.tokens
    prefills: dict[str, list[float]] = {"private": [], "region": [], "pushed": []}
    decodes: dict[str, list[float]] = {"private": [], "region": []}
    delays: list[float] = []
    steps = range(num_tokens, num_tokens + NUM_DECODED)
    try:
        bench.hand_over()  # pages are faulted in, and caches warm
        bench.check()
        for _ in range(options.rounds):
            pushed, delay, num_bytes = bench.hand_over()
            delays.append(delay * 1e6)
            prefills["pushed"].append(num_tokens / pushed)
            for kind, side in bench.sides.items():
                prefills[kind].append(num_tokens / timed(partial(side.prefill, bench.tokens)))
                decodes[kind].append(NUM_DECODED / timed(partial(decode_all, side, steps)))
    finally:
        bench.close()
    model = f"{title}, {num_tokens} tokens in chunks of {options.chunk}"
    delay = statistics.median(delays)
    return [
        compared(model, "prefill over a region", "region", prefills),
        compared(model, "decode over a region", "region", decodes),
        compared(model, "prefill while pushing", "pushed", prefills),
        Row(
            subject=model,
            metric="pushed a token",
            value=num_bytes / num_tokens,
            unit="B",
            values={"pushed": num_bytes / num_tokens},
        ),
        Row(
            subject=model,
            metric="last layer until the peer saw it",
            value=delay,
            unit="us",
            better="less",
            values={"pushed": delay},
            spread={"pushed": (min(delays), max(delays))},
        ),
    ]


def decode_all(side: Side, positions: range) -> None:
    """Decodes a token at each position."""
    for position in positions:
        side.decode(7, position)


def compared(subject: str, metric: str, ours: str, rates: dict[str, list[float]]) -> Row:
    """Tokens a second of one way beside those in private memory."""
    values = {kind: statistics.median(rounds) for kind, rounds in rates.items()}
    return Row(
        subject=subject,
        metric=metric,
        value=values[ours],
        unit="tok/s",
        baseline="private",
        baseline_value=values["private"],
        target=MOST_LOSS,
        values=values,
        spread={kind: (min(rounds), max(rounds)) for kind, rounds in rates.items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=[model.name for model in MODELS])
    parser.add_argument("--tokens", type=int, default=1500, help="of a prompt")
    parser.add_argument("--chunk", type=int, default=512, help="tokens of a step")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    machine = describe()
    console.print(f"{machine.cpu}, {machine.num_cpus} CPUs, load {machine.load_average}")
    rows: list[Row] = []
    for model in MODELS:
        path = model.find() if model.name in options.models else None
        if path is None:
            continue
        some = rows_of(model.title, str(path), options)
        report.print_table(model.title, some, ["private", "region", "pushed"], console)
        rows += some
    chosen = {name: getattr(options, name) for name in ("tokens", "chunk", "rounds")}
    console.print(f"written to {report.write('handover', rows, machine, dict(chosen))}")


if __name__ == "__main__":
    main()
